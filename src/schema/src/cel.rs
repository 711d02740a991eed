//! Rules of custom resources (`x-kubernetes-validations`), written in CEL.
//!
//! Rules are compiled when their definition is accepted, and run on every write. Both are bounded whatever rule and
//! object hold: lengths and depths when compiled, a budget for each rule and for all of an object when run.
//!
//! - [`program`]: an expression, compiled.
//! - [`value`]: JSON values as CEL sees them.
//! - [`machine`]: what expressions run on, with a budget; [`functions`]: what they may call.

mod functions;
mod machine;
mod program;
mod value;

use std::collections::BTreeMap;

use bosun_api::field::{Errors, FieldError, Path, Problem};
use machine::{Failure, Machine, PER_OBJECT, PER_RULE, metered};
use program::{Place, Program};
use serde_json::Value;

use crate::{
    custom::{
        schema::{Kind, Node},
        validate::{items_by_key, key_of},
    },
    fieldset::same,
    types::ListKind,
};

/// No message that a rule computes is longer.
const MAX_MESSAGE: usize = 5 << 10;

/// Room for the parser; only what it uses is ever taken.
const PARSER_STACK: usize = 256 << 20;

/// The rules of a schema, as a tree beside it.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    here: Vec<Rule>,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
}

#[derive(Debug)]
struct Rule {
    source: String,
    program: Program,
    message: String,
    message_program: Option<Program>,
    reason: String,
    /// Below the value, such as `.spec.size`.
    field_path: String,
    optional_old: bool,
}

impl Rules {
    /// Compiles the rules of a schema; notes what is wrong with them.
    pub(crate) fn compile(node: &Node, path: &Path, errors: &mut Errors) -> Self {
        if !node.has_rules() {
            return Self::default();
        }
        // The parser goes as deep as a rule is long; what comes out of it is bounded.
        let compiled = std::thread::scope(|scope| {
            let work = || compile(node, true, None, path, errors);
            let thread = std::thread::Builder::new().stack_size(PARSER_STACK);
            thread
                .spawn_scoped(scope, work)
                .map(std::thread::ScopedJoinHandle::join)
        });
        if let Ok(Ok(rules)) = compiled {
            return rules;
        }
        errors.push(path, Problem::Internal("rules could not be compiled".to_owned()));
        Self::default()
    }

    /// Runs the rules on an object that fits its schema.
    pub(crate) fn check(&self, node: &Node, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        if self.is_empty() {
            return Vec::new();
        }
        Machine::with(|machine| {
            let mut run = Run {
                machine,
                budget: PER_OBJECT,
                path: String::new(),
                errors: Vec::new(),
            };
            // A spent budget has been noted.
            let _ = run.check(self, node, object, old);
            run.errors
        })
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.properties.is_empty() && self.additional.is_none() && self.items.is_none()
    }
}

fn compile(node: &Node, whole: bool, uncorrelated: Option<&str>, path: &Path, errors: &mut Errors) -> Rules {
    if !node.has_rules() {
        return Rules::default();
    }
    let mut rules = Rules::default();
    for (path, rule) in path.child("x-kubernetes-validations").each(&node.rules) {
        rules
            .here
            .extend(compile_rule(rule, node, whole, uncorrelated, &path, errors));
    }
    let properties = path.child("properties");
    for (name, property) in &node.properties {
        let below = compile(property, property.embedded, uncorrelated, &properties.key(name), errors);
        if !below.is_empty() {
            rules.properties.insert(name.clone(), below);
        }
    }
    if let Some(additional) = node.additional_node() {
        let path = path.child("additionalProperties");
        let below = compile(additional, additional.embedded, uncorrelated, &path, errors);
        rules.additional = (!below.is_empty()).then(|| Box::new(below));
    }
    if let Some(items) = &node.items {
        // Without keys, nobody can say which of the old items an item was.
        let own = path.to_string();
        let by_key = matches!(node.list, Some(ListKind::Map(_)));
        let uncorrelated = uncorrelated.or(if by_key { None } else { Some(&own) });
        let below = compile(items, items.embedded, uncorrelated, &path.child("items"), errors);
        rules.items = (!below.is_empty()).then(|| Box::new(below));
    }
    rules
}

fn compile_rule(
    written: &Value,
    node: &Node,
    whole: bool,
    uncorrelated: Option<&str>,
    path: &Path,
    errors: &mut Errors,
) -> Option<Rule> {
    let text = |name: &str| written.get(name).and_then(Value::as_str).unwrap_or_default();
    let source = text("rule");
    let before = errors.count();
    if source.trim().is_empty() {
        errors.required(&path.child("rule"), "rule is not specified");
        return None;
    }
    let message = text("message");
    let message_path = path.child("message");
    if !message.is_empty() && message.trim().is_empty() {
        errors.invalid(&message_path, message, "message must be non-empty if specified");
    } else if message.trim().contains('\n') {
        errors.invalid(&message_path, message, "message must not contain line breaks");
    } else if source.trim().contains('\n') && message.is_empty() {
        errors.required(&message_path, "message must be specified if rule contains line breaks");
    }
    let reason = text("reason");
    if !reason.is_empty() {
        let reasons = [
            "FieldValueDuplicate",
            "FieldValueForbidden",
            "FieldValueInvalid",
            "FieldValueRequired",
        ];
        errors.one_of(&path.child("reason"), Some(reason), &reasons);
    }
    let field_path = text("fieldPath");
    if !field_path.is_empty() && !leads_somewhere(field_path, node) {
        let detail = "fieldPath must be a valid path: does not refer to a valid field";
        errors.invalid(&path.child("fieldPath"), field_path, detail);
    }
    let optional_old = written.get("optionalOldSelf").and_then(Value::as_bool).unwrap_or(false);
    let rule_path = path.child("rule");
    let program = Program::compile(source, node, whole, optional_old)
        .map_err(|fault| errors.invalid(&rule_path, written.clone(), format!("compilation failed: {fault}")))
        .ok();
    if let Some(program) = &program {
        if optional_old && !program.uses_old {
            let detail = "optionalOldSelf may not be set if oldSelf is not used in rule";
            errors.invalid(&path.child("optionalOldSelf"), true, detail);
        }
        if let (true, Some(within)) = (program.uses_old, uncorrelated) {
            let detail = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            errors.invalid(&rule_path, source, detail);
        }
    }
    let computed = text("messageExpression");
    let mut message_program = None;
    if !computed.is_empty() {
        let path = path.child("messageExpression");
        if computed.trim().is_empty() {
            errors.required(&path, "must be non-empty if specified");
        } else {
            match Program::compile(computed, node, whole, optional_old) {
                Ok(program) => message_program = Some(program),
                Err(fault) => {
                    let detail = format!("messageExpression compilation failed: {fault}");
                    errors.invalid(&path, written.clone(), detail);
                }
            }
        }
    }
    let program = program.filter(|_| errors.count() == before)?;
    Some(Rule {
        source: source.trim().to_owned(),
        program,
        message: message.trim().to_owned(),
        message_program,
        reason: reason.to_owned(),
        field_path: field_path.to_owned(),
        optional_old,
    })
}

/// Whether a path of fields and keys (`.spec.size`, `.labels['a.b']`) is one of the schema.
fn leads_somewhere(path: &str, node: &Node) -> bool {
    let Ok(parsed) = crate::custom::JsonPath::parse(path) else {
        return false;
    };
    let mut at = Some(node);
    parsed.fields().is_some_and(|names| {
        names.iter().all(|name| {
            at = at.and_then(|node| value::below(node, name));
            at.is_some()
        })
    })
}

/// The budget of an object is spent: nothing more is run.
struct Spent;

struct Run<'m> {
    machine: &'m Machine,
    budget: u64,
    path: String,
    errors: Vec<FieldError>,
}

impl Run<'_> {
    fn check(&mut self, rules: &Rules, node: &Node, object: &Value, old: Option<&Value>) -> Result<(), Spent> {
        if object.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        for rule in &rules.here {
            self.run(rule, node, object, old)?;
        }
        match object {
            Value::Object(map) => {
                for (name, value) in map {
                    let below = match rules.properties.get(name) {
                        Some(below) => Some(below),
                        None if !node.properties.contains_key(name) => rules.additional.as_deref(),
                        None => None,
                    };
                    if let (Some(rules), Some(node)) = (below, value::below(node, name)) {
                        let step = if self.path.is_empty() {
                            name.clone()
                        } else {
                            format!(".{name}")
                        };
                        let old = old.and_then(|old| old.get(name));
                        self.below(&step, |run| run.check(rules, node, value, old))?;
                    }
                }
            }
            Value::Array(list) => {
                let (Some(rules), Some(items)) = (&rules.items, &node.items) else {
                    return Ok(());
                };
                let keyed = node.list.as_ref().filter(|kind| matches!(kind, ListKind::Map(_)));
                let olds = keyed.zip(old.and_then(Value::as_array));
                let olds = olds.map(|(kind, old)| items_by_key(old, kind, items));
                for (at, item) in list.iter().enumerate() {
                    let old = keyed
                        .zip(olds.as_ref())
                        .and_then(|(kind, olds)| olds.get(&key_of(item, kind, items)?).copied());
                    self.below(&format!("[{at}]"), |run| run.check(rules, items, item, old))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn below<T>(&mut self, step: &str, visit: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(step);
        let result = visit(self);
        self.path.truncate(length);
        result
    }

    fn run(&mut self, rule: &Rule, node: &Node, object: &Value, old: Option<&Value>) -> Result<(), Spent> {
        // A rule about a change needs something to compare with.
        if rule.program.uses_old && old.is_none() && !rule.optional_old {
            return Ok(());
        }
        let place = Place {
            node,
            object,
            old,
            optional: rule.optional_old,
        };
        let shown = rule_shown(rule);
        let detail = match self.execute(&rule.program, place) {
            Ok(kube_cel::cel::Value::Bool(true)) => return Ok(()),
            Ok(kube_cel::cel::Value::Bool(false)) => None,
            Ok(_) => Some(format!("rule must evaluate to a bool: {shown}")),
            Err(Failure::Exhausted) => {
                self.push(
                    node,
                    "",
                    "",
                    "'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to \
                     call cost exceeds limit for rule: "
                        .to_owned() + shown,
                );
                return Err(Spent);
            }
            Err(Failure::NoOverload) => Some(format!(
                "'no such overload': call arguments did not match a supported operator, function or macro signature for \
                 rule: {shown}"
            )),
            Err(Failure::Error(error)) => Some(format!("{} evaluating rule: {shown}", readable(&error, &rule.program))),
        };
        if let Some(detail) = detail {
            self.push(node, "", "", detail);
            return Ok(());
        }
        // What an update leaves as it was isn't held against it, unless the rule is about the change.
        if !rule.program.uses_old && old.is_some_and(|old| same(old, object)) {
            return Ok(());
        }
        let mut detail = None;
        if let Some(program) = &rule.message_program {
            match self.execute(program, place) {
                Ok(kube_cel::cel::Value::String(text)) => {
                    let text = text.trim();
                    let usable = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                    detail = usable.then(|| text.to_owned());
                }
                Err(Failure::Exhausted) => {
                    let source = "messageExpression evaluation failed due to running out of cost budget, no further \
                                  validation rules will be run";
                    self.push(node, "", "", source.to_owned());
                    return Err(Spent);
                }
                _ => {}
            }
        }
        let detail = detail.unwrap_or_else(|| {
            if rule.message.is_empty() {
                format!("failed rule: {}", rule.source)
            } else {
                rule.message.clone()
            }
        });
        self.push(node, &rule.field_path, &rule.reason, detail);
        Ok(())
    }

    fn execute(&mut self, program: &Program, place: Place<'_>) -> Result<kube_cel::cel::Value, Failure> {
        let machine = self.machine;
        let (result, cost) = metered(PER_RULE.min(self.budget), || program.execute(machine, place));
        self.budget -= cost;
        result
    }

    fn push(&mut self, node: &Node, below: &str, reason: &str, detail: String) {
        let field = format!("{}{below}", self.path);
        let field = match field.strip_prefix('.').unwrap_or(&field) {
            "" => "<nil>",
            field => field,
        };
        let shown = Value::from(node.kind.map_or("", Kind::name));
        let problem = match reason {
            "FieldValueForbidden" => Problem::Forbidden(detail),
            "FieldValueRequired" => Problem::Required(detail),
            "FieldValueDuplicate" => Problem::Duplicate(shown, String::new()),
            _ => Problem::Invalid(shown, detail),
        };
        self.errors.push(FieldError {
            field: field.to_owned(),
            problem,
        });
    }
}

fn rule_shown(rule: &Rule) -> &str {
    if rule.message.is_empty() {
        &rule.source
    } else {
        &rule.message
    }
}

/// An error with the field's name in place of the variable that holds it.
fn readable(error: &str, program: &Program) -> String {
    let name = error
        .strip_prefix("no such attribute(s): ")
        .and_then(|variable| program.name_of(variable));
    match name {
        Some(name) => format!("no such key: {name}"),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests;
