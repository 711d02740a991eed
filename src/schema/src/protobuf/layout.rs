//! Each message's fields in the order of their numbers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use crate::{
    facts::{self, FieldFacts, TypeExpr, TypeFacts, Upstream},
    types::{TypeId, Types},
};

use super::ProtobufError;

/// A message's place: that of its type among the built-in ones, or beyond them if it is inlined in JSON.
pub(super) type MessageId = usize;

/// One message.
pub(super) struct Message {
    pub form: Form,
    /// In the order of their numbers.
    pub fields: Vec<Field>,
}

/// What a message is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An object of its fields.
    Object,
    /// `{string}`: text.
    Quantity,
    /// `{seconds, nanos}`: text; empty for no time.
    Time { micro: bool },
    /// `{type, intVal, strVal}`: a number or text.
    IntOrString,
    /// `{raw}`: any JSON. An object in it may be protobuf itself.
    Raw,
    /// `{schema, jSONSchemas}`: an object, or a list of them.
    SchemaOrArray(MessageId),
    /// `{allows, schema}`: true, false, or an object.
    SchemaOrBool(MessageId),
    /// `{schema, property}`: an object, or a list of texts.
    SchemaOrStrings(MessageId),
}

/// One field.
pub(super) struct Field {
    pub number: u32,
    /// In JSON; empty if the message's fields are inlined.
    pub name: &'static str,
    pub what: What,
    pub repeat: Repeat,
    /// Whether a zero means something; otherwise it means that the field is absent.
    pub zero: bool,
}

/// What a field holds, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    Bytes,
    Message(MessageId),
    /// A message whose fields are in JSON those of the object around it.
    Inlined(MessageId),
    /// A message `{items}`: a list of texts.
    Strings,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    List,
    /// A message `{key, value}` each.
    Map,
}

static MESSAGES: LazyLock<Vec<Message>> = LazyLock::new(|| Builder::new().build());

/// The message of a built-in type.
pub(super) fn of(ty: TypeId) -> Result<&'static Message, ProtobufError> {
    // Types of a name stand first in both, in the same order; those without one are no messages.
    let named = Types::builtin().get(ty).name.is_some();
    MESSAGES
        .get(ty.0 as usize)
        .filter(|_| named)
        .ok_or(ProtobufError::Malformed("not a message"))
}

/// The message of a field.
pub(super) fn message(id: MessageId) -> &'static Message {
    &MESSAGES[id]
}

struct Builder {
    types: Vec<TypeFacts>,
    places: HashMap<&'static str, MessageId>,
    /// Fields that are otherwise than most of their sort about zeros: whether they are pointers.
    zeros: HashMap<(&'static str, &'static str), bool>,
    messages: Vec<Message>,
}

impl Builder {
    fn new() -> Self {
        let types = facts::types();
        let places = types.iter().enumerate().map(|(place, ty)| (ty.name, place)).collect();
        let zeros = facts::upstream()
            .filter_map(|fact| match fact {
                Upstream::Zeros { ty, fields, pointer } => {
                    Some(fields.into_iter().map(move |field| ((ty, field), pointer)))
                }
                _ => None,
            })
            .flatten()
            .collect();
        Self {
            types,
            places,
            zeros,
            messages: Vec::new(),
        }
    }

    fn build(mut self) -> Vec<Message> {
        let types = std::mem::take(&mut self.types);
        for ty in &types {
            let form = self.form(ty);
            self.messages.push(Message {
                form,
                fields: Vec::new(),
            });
        }
        for (place, ty) in types.iter().enumerate() {
            let fields: Vec<_> = ty.fields.iter().map(|field| (field, &field.number[..])).collect();
            self.messages[place].fields = self.fields(ty.name, &fields);
        }
        self.messages
    }

    fn form(&self, ty: &TypeFacts) -> Form {
        let schema = || self.places["apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"];
        match ty.form {
            None | Some("patch") => Form::Object,
            Some("quantity") => Form::Quantity,
            Some("time") => Form::Time { micro: false },
            Some("microtime") => Form::Time { micro: true },
            Some("intorstring") => Form::IntOrString,
            Some("raw" | "fields" | "json") => Form::Raw,
            Some("schemaorarray") => Form::SchemaOrArray(schema()),
            Some("schemaorbool") => Form::SchemaOrBool(schema()),
            Some("schemaorstrings") => Form::SchemaOrStrings(schema()),
            Some(other) => panic!("unknown form {other}"),
        }
    }

    /// The fields of a message, each with what is left of its path of numbers.
    fn fields(&mut self, ty: &'static str, fields: &[(&FieldFacts, &[u32])]) -> Vec<Field> {
        let mut by_number: BTreeMap<u32, Vec<(&FieldFacts, &[u32])>> = BTreeMap::new();
        for (field, path) in fields {
            if let Some((number, rest)) = path.split_first() {
                by_number.entry(*number).or_default().push((field, rest));
            }
        }
        by_number
            .into_iter()
            .map(|(number, fields)| {
                if let [(field, [])] = fields[..] {
                    return self.field(ty, field, number);
                }
                let inlined = Message {
                    form: Form::Object,
                    fields: self.fields(ty, &fields),
                };
                self.messages.push(inlined);
                Field {
                    number,
                    name: "",
                    what: What::Inlined(self.messages.len() - 1),
                    repeat: Repeat::Once,
                    zero: true,
                }
            })
            .collect()
    }

    fn field(&self, ty: &'static str, field: &FieldFacts, number: u32) -> Field {
        let (what, repeat) = match &field.ty {
            TypeExpr::List { wrapped: false, items } => (self.what(items), Repeat::List),
            TypeExpr::Map(values) => (self.what(values), Repeat::Map),
            once => (self.what(once), Repeat::Once),
        };
        let zero = match self.zeros.get(&(ty, field.name)) {
            _ if field.required => true,
            Some(pointer) => *pointer,
            None => !matches!(what, What::String | What::Bytes),
        };
        Field {
            number,
            name: field.name,
            what,
            repeat,
            zero,
        }
    }

    fn what(&self, ty: &TypeExpr) -> What {
        match ty {
            TypeExpr::Bool => What::Bool,
            TypeExpr::Int32 => What::Int32,
            TypeExpr::Int64 => What::Int64,
            TypeExpr::Double => What::Double,
            TypeExpr::String => What::String,
            TypeExpr::Bytes => What::Bytes,
            TypeExpr::Named(name) => What::Message(self.places[name]),
            TypeExpr::List { .. } => What::Strings,
            TypeExpr::Map(_) => panic!("a map within a list or map has no encoding"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_stand_where_their_types_do() {
        let types = Types::builtin();
        for (place, fact) in facts::types().iter().enumerate() {
            let id = types
                .find(&format!("{}{}", facts::PREFIX, fact.name))
                .expect("a built-in type");
            assert_eq!(id.0 as usize, place, "{}", fact.name);
        }
    }

    #[test]
    fn every_fact_about_zeros_is_of_an_optional_scalar() {
        let types = facts::types();
        for fact in facts::upstream() {
            let Upstream::Zeros { ty, fields, pointer } = fact else {
                continue;
            };
            let ty = types.iter().find(|fact| fact.name == ty).expect(ty);
            for name in fields {
                let field = ty.fields.iter().find(|field| field.name == name).expect(name);
                let text = field.ty == TypeExpr::String;
                let number = matches!(field.ty, TypeExpr::Bool | TypeExpr::Int32 | TypeExpr::Int64);
                assert!(
                    !field.required && (if pointer { text } else { number }),
                    "{}.{name}",
                    ty.name
                );
            }
        }
    }

    #[test]
    fn every_list_has_its_metadata_first_and_its_items_second() {
        for fact in facts::types()
            .iter()
            .filter(|fact| fact.fields.iter().any(|field| field.name == "items"))
        {
            if fact.name.ends_with("List") && !fact.kinds.is_empty() {
                let number = |name: &str| {
                    fact.fields
                        .iter()
                        .find(|field| field.name == name)
                        .map(|field| &field.number[..])
                };
                assert_eq!(
                    (number("metadata"), number("items")),
                    (Some(&[1][..]), Some(&[2][..])),
                    "{}",
                    fact.name
                );
            }
        }
    }
}
