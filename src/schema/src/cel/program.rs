//! A rule, compiled: the fields of the object that it looks at found out, so that only they are converted, and every
//! copy charged for.

use std::collections::BTreeMap;

use kube_cel::cel::{
    IdedExpr, Program as Parsed, ResolveResult, Value,
    common::ast::{CallExpr, EntryExpr, Expr, IdedEntryExpr, ListExpr, LiteralValue, MapExpr, SelectExpr},
};
use serde_json::Value as Json;

use super::{
    functions::{self, TYPES},
    machine::{CHARGE, CHARGE_PATTERN, CHARGE_SQUARE, FORMAT, Machine},
    value,
};
use crate::custom::schema::{Additional, Node};

/// No rule is longer.
const MAX_LENGTH: usize = 16 << 10;

/// No rule has more expressions in it.
const MAX_EXPRESSIONS: usize = 4096;

/// No rule's expressions are nested deeper.
const MAX_DEPTH: usize = 100;

/// An expression that can be evaluated.
#[derive(Debug)]
pub(super) struct Program {
    expression: IdedExpr,
    /// The fields it looks at, by the variable that holds each.
    paths: Vec<Path>,
    /// Whether it looks at `oldSelf`.
    pub(super) uses_old: bool,
}

/// A field of the object, `self` or `oldSelf`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    old: bool,
    /// Names in JSON.
    names: Vec<String>,
}

impl Path {
    fn variable(at: usize) -> String {
        format!("@{at}")
    }
}

/// Where a rule is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) object: &'a Json,
    /// What the object was, if there is something to compare with.
    pub(super) old: Option<&'a Json>,
    /// Whether `oldSelf` is an optional.
    pub(super) optional: bool,
}

impl Program {
    /// Compiles an expression over values of `node`; says what is wrong with it. `whole` if they are objects that have
    /// metadata; `optional` if `oldSelf` is an optional.
    pub(super) fn compile(source: &str, node: &Node, whole: bool, optional: bool) -> Result<Self, String> {
        if source.len() > MAX_LENGTH {
            return Err(format!("must be no more than {MAX_LENGTH} bytes"));
        }
        let parsed = Parsed::compile(source).map_err(|error| error.to_string().trim().to_owned())?;
        let mut rewriter = Rewriter {
            node,
            whole,
            optional,
            paths: Vec::new(),
            uses_old: false,
            variables: BTreeMap::new(),
            expressions: 0,
            depth: 0,
        };
        let expression = rewriter.value(parsed.expression())?;
        Ok(Self {
            expression,
            paths: rewriter.paths,
            uses_old: rewriter.uses_old,
        })
    }

    /// Evaluates it. What it costs is charged ([`super::machine::metered`]).
    pub(super) fn execute(&self, machine: &Machine, place: Place<'_>) -> ResolveResult {
        let mut scope = machine.scope();
        for (at, path) in self.paths.iter().enumerate() {
            let value = if path.old && place.optional {
                Some(optional(place, machine))
            } else {
                let root = if path.old { place.old } else { Some(place.object) };
                let found = root.and_then(|root| path.find(place.node, root));
                found.map(|(node, found)| value::value(node, found, machine))
            };
            if let Some(value) = value {
                super::machine::spend(value::size(&value))?;
                scope.add_variable_from_value(Path::variable(at), value);
            }
        }
        Value::resolve(&self.expression, &scope)
    }

    /// The last name of the field that a variable stands for, for messages.
    pub(super) fn name_of(&self, variable: &str) -> Option<&str> {
        let at: usize = variable.strip_prefix('@')?.parse().ok()?;
        let path = self.paths.get(at)?;
        Some(
            path.names
                .last()
                .map_or(if path.old { "oldSelf" } else { "self" }, |name| name),
        )
    }
}

fn optional(place: Place<'_>, machine: &Machine) -> Value {
    use kube_cel::cel::objects::OptionalValue;

    let optional = match place.old {
        Some(old) => OptionalValue::of(value::value(Some(place.node), old, machine)),
        None => OptionalValue::none(),
    };
    Value::Opaque(std::sync::Arc::new(optional))
}

impl Path {
    fn find<'v>(&self, node: &'v Node, root: &'v Json) -> Option<(Option<&'v Node>, &'v Json)> {
        let (mut node, mut at) = (Some(node), root);
        for name in &self.names {
            at = at.get(name)?;
            node = node.and_then(|node| value::below(node, name));
        }
        Some((node, at))
    }
}

struct Rewriter<'n> {
    node: &'n Node,
    whole: bool,
    optional: bool,
    paths: Vec<Path>,
    uses_old: bool,
    /// Variables of the loops around, and how many loops have each.
    variables: BTreeMap<String, usize>,
    expressions: usize,
    depth: usize,
}

type Rewritten = Result<IdedExpr, String>;

fn expression(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

fn call(name: &str, argument: IdedExpr) -> IdedExpr {
    expression(Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: None,
        args: vec![argument],
    }))
}

impl Rewriter<'_> {
    /// An expression whose value is copied: charged for.
    fn value(&mut self, source: &IdedExpr) -> Rewritten {
        let plain = self.place(source)?;
        Ok(match &source.expr {
            Expr::Ident(name) if !self.is_variable(name) => plain,
            Expr::Ident(_) => call(CHARGE, plain),
            Expr::Select(select) if !select.test => call(CHARGE, plain),
            Expr::Call(made) if made.func_name == "_+_" || !made.func_name.contains('_') => call(CHARGE, plain),
            Expr::Call(made) if matches!(&*made.func_name, "_[_]" | "_[?_]" | "_?._") => call(CHARGE, plain),
            _ => plain,
        })
    }

    /// An expression that is only looked into, or whose value costs nothing.
    fn place(&mut self, source: &IdedExpr) -> Rewritten {
        self.expressions += 1;
        if self.expressions > MAX_EXPRESSIONS {
            return Err(format!("must have no more than {MAX_EXPRESSIONS} expressions"));
        }
        if self.depth >= MAX_DEPTH {
            return Err(format!("must not be nested deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let rewritten = self.rewrite(&source.expr);
        self.depth -= 1;
        Ok(expression(rewritten?))
    }

    fn rewrite(&mut self, source: &Expr) -> Result<Expr, String> {
        if let Some(path) = self.path_of(source)? {
            let at = self.paths.iter().position(|known| *known == path).unwrap_or_else(|| {
                self.paths.push(path);
                self.paths.len() - 1
            });
            return Ok(Expr::Ident(Path::variable(at)));
        }
        Ok(match source {
            Expr::Literal(literal) => Expr::Literal(literal.clone()),
            Expr::Ident(name) => {
                let is_type = TYPES.iter().any(|(ty, _)| ty == name);
                if !self.is_variable(name) && !is_type && !functions::is_group(name) {
                    return Err(undeclared(name));
                }
                Expr::Ident(name.clone())
            }
            Expr::Select(select) => Expr::Select(SelectExpr {
                operand: Box::new(self.operand(&select.operand)?),
                field: select.field.clone(),
                test: select.test,
            }),
            Expr::Call(made) => Expr::Call(self.call(made)?),
            Expr::List(list) => {
                let elements = list.elements.iter().map(|element| self.value(element));
                Expr::List(ListExpr {
                    elements: elements.collect::<Result<_, _>>()?,
                    optional_indices: list.optional_indices.clone(),
                })
            }
            Expr::Map(map) => {
                let entries = map.entries.iter().map(|entry| self.entry(entry));
                Expr::Map(MapExpr {
                    entries: entries.collect::<Result<_, _>>()?,
                })
            }
            Expr::Comprehension(source) => {
                let mut made = source.clone();
                made.iter_range = self.value(&source.iter_range)?;
                made.accu_init = self.value(&source.accu_init)?;
                let names: Vec<&String> = [&source.iter_var, &source.accu_var]
                    .into_iter()
                    .chain(&source.iter_var2)
                    .collect();
                for name in &names {
                    *self.variables.entry((*name).clone()).or_default() += 1;
                }
                // The condition is evaluated once an item: that is charged for.
                let condition = self.place(&source.loop_cond)?;
                made.loop_cond = call(CHARGE, condition);
                made.loop_step = self.value(&source.loop_step)?;
                made.result = self.value(&source.result)?;
                for name in names {
                    if let Some(count) = self.variables.get_mut(name) {
                        *count -= 1;
                    }
                }
                Expr::Comprehension(made)
            }
            Expr::Struct(_) | Expr::Unspecified => return Err("messages are not supported".to_owned()),
        })
    }

    fn call(&mut self, made: &CallExpr) -> Result<CallExpr, String> {
        let name = &*made.func_name;
        let group = match &made.target {
            Some(target) => match &target.expr {
                Expr::Ident(group) if !self.is_variable(group) && functions::is_group(group) => Some(group),
                _ => None,
            },
            None => None,
        };
        let known = match group {
            Some(group) => functions::is_known(&format!("{group}.{name}")),
            None => functions::is_known(name),
        };
        if !known {
            return Err(undeclared(name));
        }
        let target = match &made.target {
            Some(target) if name == "format" && !matches!(target.expr, Expr::Ident(_)) => {
                Some(call(FORMAT, self.value(target)?))
            }
            Some(target) if matches!(name, "distinct" | "isSorted" | "sort") => {
                Some(call(CHARGE_SQUARE, self.value(target)?))
            }
            Some(target) => Some(self.value(target)?),
            None => None,
        };
        let of_sets = group.is_some_and(|group| group == "sets");
        let mut args = Vec::with_capacity(made.args.len());
        for (at, argument) in made.args.iter().enumerate() {
            let is_container = at == 0 && matches!(name, "_[_]" | "_[?_]" | "_?._");
            args.push(if is_container {
                self.operand(argument)?
            } else if of_sets {
                call(CHARGE_SQUARE, self.value(argument)?)
            } else if at == 0 && matches!(name, "matches" | "find" | "findAll") {
                if let Expr::Literal(LiteralValue::String(pattern)) = &argument.expr {
                    check_pattern(pattern.inner())?;
                }
                call(CHARGE_PATTERN, self.value(argument)?)
            } else {
                self.value(argument)?
            });
        }
        Ok(CallExpr {
            func_name: made.func_name.clone(),
            target: target.map(Box::new),
            args,
        })
    }

    /// What a field or an item is taken from: a variable isn't copied for it.
    fn operand(&mut self, source: &IdedExpr) -> Rewritten {
        match (&source.expr, self.path_of(&source.expr)?) {
            (Expr::Ident(_), _) | (_, Some(_)) => self.place(source),
            _ => self.value(source),
        }
    }

    fn entry(&mut self, entry: &IdedEntryExpr) -> Result<IdedEntryExpr, String> {
        let EntryExpr::MapEntry(pair) = &entry.expr else {
            return Err("messages are not supported".to_owned());
        };
        let mut made = pair.clone();
        made.key = self.value(&pair.key)?;
        made.value = self.value(&pair.value)?;
        Ok(IdedEntryExpr {
            id: entry.id,
            expr: EntryExpr::MapEntry(made),
        })
    }

    fn is_variable(&self, name: &str) -> bool {
        self.is_loop_variable(name) || matches!(name, "self" | "oldSelf")
    }

    fn is_loop_variable(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|count| *count > 0)
    }

    /// The field that an expression is, if it is one of the object: `self`, `self.spec.replicas`.
    fn path_of(&mut self, source: &Expr) -> Result<Option<Path>, String> {
        let mut fields = Vec::new();
        let mut at = source;
        let old = loop {
            match at {
                Expr::Select(select) if !select.test => {
                    fields.push(&*select.field);
                    at = &select.operand.expr;
                }
                Expr::Ident(name) if self.is_loop_variable(name) => return Ok(None),
                Expr::Ident(name) if name == "self" => break false,
                Expr::Ident(name) if name == "oldSelf" => break true,
                _ => return Ok(None),
            }
        };
        fields.reverse();
        self.uses_old |= old;
        if old && self.optional {
            // The optional itself; what is asked of it is a call, or selects that it answers.
            return Ok(fields.is_empty().then_some(Path { old, names: Vec::new() }));
        }
        let mut names = Vec::with_capacity(fields.len());
        let mut node = Some(self.node);
        let mut whole = self.whole;
        for field in fields {
            let Some(at) = node else {
                names.push(field.to_owned());
                continue;
            };
            let (name, below) = named(at, field, whole).ok_or_else(|| format!("undefined field '{field}'"))?;
            whole = below.is_some_and(|below| below.embedded);
            names.push(name);
            node = below;
        }
        Ok(Some(Path { old, names }))
    }
}

/// The field's name in JSON and its schema, if that is known; `None` if there is no such field.
fn named<'n>(node: &'n Node, field: &str, whole: bool) -> Option<(String, Option<&'n Node>)> {
    if let Some((name, below)) = node.properties.iter().find(|(name, _)| value::escape(name) == field) {
        return Some((name.clone(), Some(below).filter(|_| !(whole && name == "metadata"))));
    }
    let implicit = whole && matches!(field, "apiVersion" | "kind" | "metadata");
    match &node.additional {
        Some(Additional::Of(below)) => Some((field.to_owned(), Some(below))),
        Some(Additional::Any(true)) => Some((field.to_owned(), None)),
        _ if implicit || node.preserve => Some((field.to_owned(), None)),
        _ => None,
    }
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(256 << 10)
        .build()
        .map(drop)
        .map_err(|error| format!("invalid matches argument: {error}"))
}
