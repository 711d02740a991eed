//! Values as upstream's messages show them: in the formats of its language.

use std::fmt::Write as _;

use serde_json::Value;

/// No message needs more of a value.
const MAX_CHARS: usize = 1024;

/// `map[name:web ports:[80]]`
pub(crate) fn plain(value: &Value) -> String {
    let mut out = String::new();
    write_plain(value, &mut out);
    shorten(out)
}

/// `&{map[name:web]}`, a value in the wrapper that upstream's merge keeps values in.
pub(crate) fn wrapped(value: &Value) -> String {
    format!("&{{{}}}", plain(value))
}

/// `map[string]interface {}{"name":"web"}`
pub(crate) fn syntax(value: &Value) -> String {
    let mut out = String::new();
    write_syntax(value, &mut out);
    shorten(out)
}

/// `[]interface {}`
pub(crate) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn shorten(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(at);
        text.push('…');
    }
    text
}

fn write_plain(value: &Value, out: &mut String) {
    if out.len() > MAX_CHARS * 4 {
        return;
    }
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
        Value::Array(list) => {
            out.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                write_plain(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            out.push_str("map[");
            for (at, (name, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                out.push_str(name);
                out.push(':');
                write_plain(value, out);
            }
            out.push(']');
        }
    }
}

fn write_syntax(value: &Value, out: &mut String) {
    if out.len() > MAX_CHARS * 4 {
        return;
    }
    match value {
        Value::Null => out.push_str("interface {}(nil)"),
        Value::Array(list) => {
            out.push_str("[]interface {}{");
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_syntax(item, out);
            }
            out.push('}');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(name, _)| *name);
            out.push_str("map[string]interface {}{");
            for (at, (name, value)) in entries.into_iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                let _ = write!(out, "{name:?}:");
                write_syntax(value, out);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}
