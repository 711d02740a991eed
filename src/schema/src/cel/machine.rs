//! What rules run on: CEL's functions and Kubernetes', with a budget.
//!
//! The interpreter copies values wherever it looks at them, and has no bound of its own. So a rule is rewritten when it
//! is compiled ([`super::program`]): every value that is copied goes through [`CHARGE`], which takes its size from the
//! budget. Functions that make much of little are replaced by ones that look before.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use kube_cel::{
    KubeCelExt,
    cel::{Context, ExecutionError, FunctionContext, Program, ResolveResult, Value, extractors::This},
};

use super::{functions::TYPES, value::size};

/// What one rule may cost, as upstream counts its own cost.
pub(super) const PER_RULE: u64 = 1_000_000;

/// What all rules of one object may cost.
pub(super) const PER_OBJECT: u64 = 10_000_000;

/// Passes its argument on and charges its size.
pub(super) const CHARGE: &str = "@charge";

/// Charges the square of the size: for functions that compare each with each.
pub(super) const CHARGE_SQUARE: &str = "@charge_square";

/// Charges what compiling a regular expression costs that isn't known before.
pub(super) const CHARGE_PATTERN: &str = "@charge_pattern";

/// Refuses a format that asks for more digits than any number has.
pub(super) const FORMAT: &str = "@format";

/// What a regular expression costs.
const PATTERN: u64 = 2_000;

/// What the error of an exhausted budget is known by.
const EXHAUSTED: &str = "actual cost limit exceeded";

thread_local! {
    static FUEL: Cell<u64> = const { Cell::new(0) };
    static MACHINE: Machine = Machine::new();
}

/// How a rule ended that has no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Its budget is spent.
    Exhausted,
    /// Its operands are of types that it can't work on.
    NoOverload,
    /// Anything else.
    Error(String),
}

/// The functions, and what turns texts into times.
pub(super) struct Machine {
    context: Context<'static>,
    timestamp: Option<Program>,
    duration: Option<Program>,
}

impl Machine {
    fn new() -> Self {
        let mut context = Context::default().with_all();
        context.add_function(CHARGE, charge);
        context.add_function(CHARGE_SQUARE, charge_square);
        context.add_function(CHARGE_PATTERN, charge_pattern);
        context.add_function(FORMAT, check_format);
        context.add_function("replace", replace);
        context.add_function("join", join);
        context.add_function("lists.range", range);
        context.add_function("type", type_of);
        context.add_function("dyn", argument);
        context.add_function("bool", truth);
        for (name, ty) in TYPES {
            context.add_variable_from_value(name, ty);
        }
        Self {
            context,
            timestamp: Program::compile("timestamp(text)").ok(),
            duration: Program::compile("duration(text)").ok(),
        }
    }

    /// Calls `visit` with this thread's machine.
    pub(super) fn with<T>(visit: impl FnOnce(&Self) -> T) -> T {
        MACHINE.with(visit)
    }

    /// A scope for a rule's own variables.
    pub(super) fn scope(&self) -> Context<'_> {
        self.context.new_inner_scope()
    }

    pub(super) fn timestamp(&self, text: &str) -> Option<Value> {
        self.convert(self.timestamp.as_ref()?, text)
    }

    pub(super) fn duration(&self, text: &str) -> Option<Value> {
        self.convert(self.duration.as_ref()?, text)
    }

    fn convert(&self, program: &Program, text: &str) -> Option<Value> {
        let mut scope = self.scope();
        scope.add_variable_from_value("text", text);
        program.execute(&scope).ok()
    }
}

/// Runs `work` with a budget; gives what it cost, too.
pub(super) fn metered(budget: u64, work: impl FnOnce() -> ResolveResult) -> (Result<Value, Failure>, u64) {
    FUEL.set(budget);
    // The interpreter panics on what it doesn't know yet.
    let result = catch_unwind(AssertUnwindSafe(work));
    let cost = budget - FUEL.get();
    let result = match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(ExecutionError::FunctionError { message, .. })) if message == EXHAUSTED => Err(Failure::Exhausted),
        Ok(Err(error)) => Err(told(&error).map_or(Failure::NoOverload, Failure::Error)),
        Err(_) => Err(Failure::Error("the rule is not supported".to_owned())),
    };
    (result, cost)
}

/// An error in the words of upstream's interpreter, without values that may be large; `None` if it is that there is no
/// such operation on such values.
fn told(error: &ExecutionError) -> Option<String> {
    Some(match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::UndeclaredReference(name) => format!("no such attribute(s): {name}"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::FunctionError { function, message } => {
            let message: String = message.chars().take(200).collect();
            format!("error in {function}: {message}")
        }
        ExecutionError::InvalidArgumentCount { .. } => error.to_string(),
        _ => return None,
    })
}

/// Takes from the budget.
pub(super) fn spend(cost: u64) -> Result<(), ExecutionError> {
    let left = FUEL.get();
    FUEL.set(left.saturating_sub(cost));
    if cost > left {
        return Err(ExecutionError::function_error(CHARGE, EXHAUSTED));
    }
    Ok(())
}

fn argument(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let argument = context.args.first().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    Value::resolve(argument, context.ptx)
}

fn charge(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let value = argument(context)?;
    spend(size(&value))?;
    Ok(value)
}

fn charge_square(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let value = argument(context)?;
    let size = size(&value);
    spend(size.saturating_mul(size) / 16 + size)?;
    Ok(value)
}

fn charge_pattern(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let value = argument(context)?;
    let length = match &value {
        Value::String(text) => text.len() as u64,
        _ => 0,
    };
    spend(PATTERN + length * 50)?;
    Ok(value)
}

fn check_format(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let value = argument(context)?;
    spend(size(&value))?;
    if let Value::String(text) = &value
        && text.split('%').skip(1).any(|verb| {
            let digits = verb.trim_start_matches('.').bytes().take_while(u8::is_ascii_digit);
            digits.count() > 2
        })
    {
        return Err(context.error("invalid precision in format string"));
    }
    Ok(value)
}

/// `type(value)`, which compares with the names of types; what those are is nobody's business.
fn type_of(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let name = match argument(context)? {
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Int(_) => "int",
        Value::UInt(_) => "uint",
        Value::Float(_) => "double",
        Value::String(_) => "string",
        Value::Bytes(_) => "bytes",
        Value::Bool(_) => "bool",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Null => "null_type",
        _ => "unknown",
    };
    Ok(name.into())
}

/// `bool(value)`
fn truth(context: &FunctionContext<'_, '_>) -> ResolveResult {
    match argument(context)? {
        Value::Bool(truth) => Ok(Value::Bool(truth)),
        Value::String(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(context.error("type conversion error from 'string' to 'bool'")),
        },
        _ => Err(ExecutionError::NoSuchOverload),
    }
}

/// `text.replace(old, new[, times])`
fn replace(context: &FunctionContext<'_, '_>, This(text): This<Arc<String>>) -> ResolveResult {
    let texts = arguments(context)?;
    let (old, new, times) = match &texts[..] {
        [Value::String(old), Value::String(new)] => (old, new, usize::MAX),
        [Value::String(old), Value::String(new), Value::Int(times)] => {
            (old, new, usize::try_from(*times).unwrap_or(usize::MAX))
        }
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    let found = text.matches(old.as_str()).take(times).count() as u64;
    spend((text.len() as u64 + found.saturating_mul(new.len() as u64)) / 16)?;
    let replaced = if times == usize::MAX {
        text.replace(old.as_str(), new)
    } else {
        text.replacen(old.as_str(), new, times)
    };
    Ok(replaced.into())
}

/// `texts.join([separator])`
fn join(context: &FunctionContext<'_, '_>, This(list): This<Arc<Vec<Value>>>) -> ResolveResult {
    let arguments = arguments(context)?;
    let separator = match &arguments[..] {
        [] => "",
        [Value::String(separator)] => separator.as_str(),
        _ => return Err(ExecutionError::NoSuchOverload),
    };
    let texts = list.iter().map(|item| match item {
        Value::String(text) => Ok(text.as_str()),
        _ => Err(ExecutionError::NoSuchOverload),
    });
    let texts = texts.collect::<Result<Vec<_>, _>>()?;
    let length: usize = texts.iter().map(|text| text.len() + separator.len()).sum();
    spend(length as u64 / 16)?;
    Ok(texts.join(separator).into())
}

/// `lists.range(count)`
fn range(context: &FunctionContext<'_, '_>) -> ResolveResult {
    let Value::Int(count) = argument(context)? else {
        return Err(ExecutionError::NoSuchOverload);
    };
    spend(u64::try_from(count).unwrap_or(0))?;
    Ok(Value::List(Arc::new((0..count).map(Value::Int).collect())))
}

fn arguments(context: &FunctionContext<'_, '_>) -> Result<Vec<Value>, ExecutionError> {
    context
        .args
        .iter()
        .map(|argument| Value::resolve(argument, context.ptx))
        .collect()
}
