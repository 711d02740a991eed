//! The facts of Kubernetes 1.36's API, read from three texts in `facts/`: lines that a person can read and compare.
//!
//! Here is only their grammar, borrowed from the texts; [`crate::builtin`], [`crate::resources`], [`crate::protobuf`]
//! and [`crate::openapi`] each make of it what they need. The texts are part of the program, so an ill-formed line is
//! a fault of ours: the tests read every line.

use serde_json::Value;

const TYPES: &str = include_str!("facts/types.txt");
const RESOURCES: &str = include_str!("facts/resources.txt");
const UPSTREAM: &str = include_str!("facts/upstream.txt");

/// What every type's name begins with in OpenAPI, left out in the texts.
pub(crate) const PREFIX: &str = "io.k8s.";

/// One type's facts.
#[derive(Debug, Default)]
pub(crate) struct TypeFacts {
    /// Without [`PREFIX`].
    pub name: &'static str,
    /// Its JSON is of a form of its own: `quantity`, `time`, …
    pub form: Option<&'static str>,
    /// OpenAPI doesn't show it.
    pub hidden: bool,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic: bool,
    /// Group, version and kind of objects of this type; options and watch events are of every group.
    pub kinds: Vec<GroupVersionKind>,
    /// `x-kubernetes-unions`.
    pub unions: Vec<Union>,
    /// In the order of their names.
    pub fields: Vec<FieldFacts>,
}

/// A group, version and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupVersionKind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

/// Fields of which at most one is set.
#[derive(Debug)]
pub(crate) struct Union {
    /// The field that says which, if there is one.
    pub discriminator: Option<&'static str>,
    /// Each field and the discriminator's value that goes with it.
    pub fields: Vec<(&'static str, &'static str)>,
}

/// One field's facts.
#[derive(Debug)]
pub(crate) struct FieldFacts {
    pub name: &'static str,
    pub required: bool,
    /// Numbers in the protobuf encoding from the outermost message inwards; empty if it isn't encoded.
    pub number: Vec<u32>,
    pub ty: TypeExpr,
    /// `x-kubernetes-list-type`: `atomic`, `set` or `map`.
    pub list: Option<&'static str>,
    /// `x-kubernetes-list-map-keys`.
    pub keys: Vec<&'static str>,
    /// `x-kubernetes-map-type`: `atomic` or `granular`.
    pub map: Option<&'static str>,
    /// `x-kubernetes-patch-strategy`.
    pub strategy: Option<&'static str>,
    /// `x-kubernetes-patch-merge-key`.
    pub merge_key: Option<&'static str>,
}

/// A type as a field names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TypeExpr {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    Bytes,
    /// By its name, without [`PREFIX`].
    Named(&'static str),
    /// `wrapped`: in protobuf it is a message whose field 1 repeats.
    List {
        items: Box<TypeExpr>,
        wrapped: bool,
    },
    Map(Box<TypeExpr>),
}

impl TypeExpr {
    fn parse(text: &'static str) -> Self {
        if let Some(items) = text.strip_prefix("@[]") {
            return Self::List {
                items: Box::new(Self::parse(items)),
                wrapped: true,
            };
        }
        if let Some(items) = text.strip_prefix("[]") {
            return Self::List {
                items: Box::new(Self::parse(items)),
                wrapped: false,
            };
        }
        if let Some(values) = text.strip_prefix("{}") {
            return Self::Map(Box::new(Self::parse(values)));
        }
        match text {
            "bool" => Self::Bool,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            name => Self::Named(name),
        }
    }
}

impl GroupVersionKind {
    fn parse(text: &'static str) -> Self {
        let (group, rest) = text.split_once('/').expect("group/version/kind");
        let (version, kind) = rest.split_once('/').expect("group/version/kind");
        Self { group, version, kind }
    }
}

impl FieldFacts {
    fn parse(line: &'static str) -> Self {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().expect("a field has name, number and type");
        let (name, number, ty) = (word(), word(), word());
        let mut field = Self {
            name: name.trim_end_matches('!'),
            required: name.ends_with('!'),
            number: match number {
                "-" => Vec::new(),
                path => path.split('.').map(|n| n.parse().expect("a field number")).collect(),
            },
            ty: TypeExpr::parse(ty),
            list: None,
            keys: Vec::new(),
            map: None,
            strategy: None,
            merge_key: None,
        };
        let is_list = matches!(field.ty, TypeExpr::List { .. } | TypeExpr::Bytes);
        for word in words {
            match word.split_once('=') {
                Some(("map", keys)) => {
                    field.list = Some("map");
                    field.keys = keys.split(',').collect();
                }
                Some(("patch", patch)) => {
                    let (strategy, key) = patch.split_once(':').map_or((patch, None), |(s, k)| (s, Some(k)));
                    field.strategy = Some(strategy);
                    field.merge_key = key;
                }
                None if is_list => field.list = Some(word),
                None => field.map = Some(word),
                Some(_) => panic!("unknown fact {word} of field {name}"),
            }
        }
        field
    }
}

impl TypeFacts {
    fn parse(line: &'static str) -> Self {
        let mut words = line.split_ascii_whitespace();
        let mut ty = Self {
            name: words.next().expect("a type has a name"),
            ..Self::default()
        };
        for word in words {
            match word.split_once('=') {
                Some(("", form)) => ty.form = Some(form),
                Some(("gvk", kind)) => ty.kinds.push(GroupVersionKind::parse(kind)),
                Some(("union", union)) => ty.unions.push(Union::parse(union)),
                None if word == "hidden" => ty.hidden = true,
                None if word == "atomic" => ty.atomic = true,
                _ => panic!("unknown fact {word} of type {}", ty.name),
            }
        }
        ty
    }
}

impl Union {
    fn parse(text: &'static str) -> Self {
        let (discriminator, fields) = text.split_once(':').expect("discriminator:fields");
        Self {
            discriminator: Some(discriminator).filter(|name| !name.is_empty()),
            fields: fields
                .split(',')
                .map(|pair| pair.split_once('=').expect("field=value"))
                .collect(),
        }
    }
}

/// The lines that say something.
fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Every type, in the order of their names.
pub(crate) fn types() -> Vec<TypeFacts> {
    let mut types: Vec<TypeFacts> = Vec::with_capacity(900);
    for line in lines(TYPES) {
        match line.strip_prefix("  ") {
            None => types.push(TypeFacts::parse(line)),
            Some(field) => types
                .last_mut()
                .expect("a type above its fields")
                .fields
                .push(FieldFacts::parse(field)),
        }
    }
    types
}

/// One resource's facts, as far as the specification tells them.
#[derive(Debug)]
pub(crate) struct ResourceLine {
    pub group: &'static str,
    pub version: &'static str,
    pub plural: &'static str,
    pub kind: &'static str,
    /// Without [`PREFIX`], as [`TypeFacts::name`].
    pub ty: &'static str,
    /// The type of its lists, if it can be listed.
    pub list: Option<&'static str>,
    pub namespaced: bool,
    pub verbs: Vec<&'static str>,
    /// Its deletion is answered with the object, not with a status.
    pub returned: bool,
    pub subresources: Vec<SubresourceLine>,
}

/// One subresource's facts.
#[derive(Debug)]
pub(crate) struct SubresourceLine {
    pub name: &'static str,
    pub kind: GroupVersionKind,
    /// The type of its body or answer, if that is an object.
    pub ty: Option<&'static str>,
    pub verbs: Vec<&'static str>,
}

/// Every resource, by group, version and plural.
pub(crate) fn resources() -> Vec<ResourceLine> {
    let (mut group, mut version) = ("", "");
    let mut resources: Vec<ResourceLine> = Vec::with_capacity(150);
    let some = |word: &'static str| Some(word).filter(|word| *word != "-");
    for line in lines(RESOURCES) {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().expect("a resource's line is whole");
        if let Some(subresource) = word().strip_prefix('/').filter(|_| line.starts_with(' ')) {
            let above = resources.last_mut().expect("a resource above its subresources");
            above.subresources.push(SubresourceLine {
                name: subresource,
                kind: GroupVersionKind::parse(word()),
                ty: some(word()),
                verbs: word().split(',').collect(),
            });
        } else if line.starts_with(' ') {
            resources.push(ResourceLine {
                group,
                version,
                plural: line.trim_start().split(' ').next().expect("a plural"),
                kind: word(),
                ty: word(),
                list: some(word()),
                namespaced: word() == "namespaced",
                verbs: word().split(',').collect(),
                returned: words.next() == Some("returned"),
                subresources: Vec::new(),
            });
        } else {
            (group, version) = line.split_once('/').expect("group/version");
        }
    }
    resources
}

/// What the specification doesn't say.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// A group and its priority; in the order of discovery.
    Group { name: &'static str, priority: u32 },
    /// A resource's short names and categories.
    Names {
        group: &'static str,
        plural: &'static str,
        short: Vec<&'static str>,
        categories: Vec<&'static str>,
    },
    /// A resource that is stored as that of another group and version.
    Stored {
        group: &'static str,
        plural: &'static str,
        as_group: &'static str,
        as_version: &'static str,
    },
    /// Optional scalar fields of a type (without [`PREFIX`]) that protobuf tells from absent when zero, or doesn't.
    Zeros {
        ty: &'static str,
        fields: Vec<&'static str>,
        pointer: bool,
    },
    /// What a field of a type (without [`PREFIX`]) is when absent.
    Default {
        ty: &'static str,
        field: &'static str,
        value: Value,
    },
}

/// Every fact that is kept by hand.
pub(crate) fn upstream() -> impl Iterator<Item = Upstream> {
    fn group(name: &'static str) -> &'static str {
        if name == "-" { "" } else { name }
    }
    fn names(text: Option<&'static str>) -> Vec<&'static str> {
        text.filter(|text| *text != "-")
            .map(|text| text.split(',').collect())
            .unwrap_or_default()
    }
    lines(UPSTREAM).map(|line| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().expect("a fact has its words");
        match word() {
            "group" => Upstream::Group {
                name: group(word()),
                priority: word().parse().expect("a priority"),
            },
            "names" => {
                let (of, plural) = word().split_once('/').expect("group/plural");
                let short = names(Some(word()));
                Upstream::Names {
                    group: group(of),
                    plural,
                    short,
                    categories: names(words.next()),
                }
            }
            "stored" => {
                let (of, plural) = word().split_once('/').expect("group/plural");
                let (as_group, as_version) = word().split_once('/').expect("group/version");
                Upstream::Stored {
                    group: group(of),
                    plural,
                    as_group: group(as_group),
                    as_version,
                }
            }
            kind @ ("plain" | "pointer") => Upstream::Zeros {
                ty: word(),
                fields: names(Some(word())),
                pointer: kind == "pointer",
            },
            "default" => {
                let (ty, field) = word().rsplit_once('.').expect("type.field");
                let value = serde_json::from_str(word()).expect("a JSON value");
                Upstream::Default { ty, field, value }
            }
            other => panic!("unknown fact {other}"),
        }
    })
}
