//! The definition we generate from, against a table of the contract's facts: a slip in a number, a type or a name
//! would be a message that the other side reads as something else.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};

/// What each enum, message and service contains, a line for each part; the first word of a line is its key.
type Contract = BTreeMap<String, BTreeMap<String, String>>;

fn expected() -> Contract {
    let mut contract = Contract::new();
    let mut heading = String::new();
    for line in include_str!("cri-1.36.txt")
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        match line.strip_prefix("  ") {
            None => {
                line.clone_into(&mut heading);
                assert!(
                    contract.insert(heading.clone(), BTreeMap::new()).is_none(),
                    "{heading} is in the table twice"
                );
            }
            Some(part) => {
                let (key, rest) = part.split_once(' ').expect("two words at least");
                let parts = contract.get_mut(&heading).expect("a heading before");
                assert!(
                    parts.insert(key.to_owned(), rest.to_owned()).is_none(),
                    "{heading}: {key} twice"
                );
            }
        }
    }
    contract
}

fn declared() -> Contract {
    let set = FileDescriptorSet::decode(bosun_proto::CRI_DESCRIPTOR).expect("a descriptor set");
    let file = set
        .file
        .iter()
        .find(|file| file.package() == "runtime.v1")
        .expect("the package");
    let mut contract = Contract::new();
    for message in &file.message_type {
        declare_message("", message, &mut contract);
    }
    for declared in &file.enum_type {
        declare_enum("", declared, &mut contract);
    }
    for service in &file.service {
        let calls = service.method.iter().map(|call| {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            let request = format!("{}{}", stream(call.client_streaming()), short(call.input_type()));
            let response = format!("{}{}", stream(call.server_streaming()), short(call.output_type()));
            (call.name().to_owned(), format!("{request} {response}"))
        });
        contract.insert(format!("service {}", service.name()), calls.collect());
    }
    contract
}

fn declare_message(outer: &str, message: &DescriptorProto, contract: &mut Contract) {
    let name = format!("{outer}{}", message.name());
    let fields = message.field.iter().map(|field| {
        assert!(
            field.oneof_index.is_none(),
            "{name}.{}: CRI has no oneof and no optional",
            field.name()
        );
        (
            field.number().to_string(),
            format!("{} {}", type_of(message, field), field.name()),
        )
    });
    contract.insert(format!("message {name}"), fields.collect());
    for nested in &message.nested_type {
        if !is_map(nested) {
            declare_message(&format!("{name}."), nested, contract);
        }
    }
    for nested in &message.enum_type {
        declare_enum(&format!("{name}."), nested, contract);
    }
}

fn declare_enum(outer: &str, declared: &EnumDescriptorProto, contract: &mut Contract) {
    let values = declared
        .value
        .iter()
        .map(|value| (value.number().to_string(), value.name().to_owned()));
    contract.insert(format!("enum {outer}{}", declared.name()), values.collect());
}

/// The compiler makes of a map a message of its own.
fn is_map(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry)
}

fn type_of(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message
        .nested_type
        .iter()
        .find(|nested| is_map(nested) && field.type_name().ends_with(&format!(".{}", nested.name())));
    if let Some(entry) = entry {
        return format!(
            "map<{}, {}>",
            type_of(entry, &entry.field[0]),
            type_of(entry, &entry.field[1])
        );
    }
    let base = match field.r#type() {
        Type::Message | Type::Enum => short(field.type_name()),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    if field.label() == Label::Repeated {
        format!("repeated {base}")
    } else {
        base
    }
}

fn short(name: &str) -> String {
    name.trim_start_matches(".runtime.v1.").to_owned()
}

/// Every difference, a line for each.
fn differences(expected: &Contract, declared: &Contract) -> Vec<String> {
    let mut found = Vec::new();
    let headings: BTreeSet<_> = expected.keys().chain(declared.keys()).collect();
    for heading in headings {
        let (wanted, written) = match (expected.get(heading), declared.get(heading)) {
            (Some(wanted), Some(written)) => (wanted, written),
            (Some(_), None) => {
                found.push(format!("{heading} is missing"));
                continue;
            }
            _ => {
                found.push(format!("{heading} is not in the contract"));
                continue;
            }
        };
        let keys: BTreeSet<_> = wanted.keys().chain(written.keys()).collect();
        for key in keys {
            match (wanted.get(key), written.get(key)) {
                (Some(wanted), Some(written)) if wanted == written => {}
                (Some(wanted), Some(written)) => {
                    found.push(format!("{heading}: {key} is \"{written}\" and should be \"{wanted}\""));
                }
                (Some(wanted), None) => found.push(format!("{heading}: {key} \"{wanted}\" is missing")),
                (None, written) => found.push(format!("{heading}: {key} {written:?} is not in the contract")),
            }
        }
    }
    found
}

#[test]
fn the_definition_is_the_contract_of_kubernetes_1_36() {
    let differences = differences(&expected(), &declared());
    assert!(
        differences.is_empty(),
        "proto/cri/runtime.proto differs:\n{}",
        differences.join("\n")
    );
}

#[test]
fn the_table_is_whole() {
    let of = |kind: &str| expected().keys().filter(|heading| heading.starts_with(kind)).count();
    assert_eq!((of("enum "), of("message "), of("service ")), (11, 170, 2));
    assert_eq!(
        expected()["service RuntimeService"].len() + expected()["service ImageService"].len(),
        41
    );
}

/// What somebody could get wrong.
type Slip<'a> = dyn Fn(&mut Contract) + 'a;

#[test]
fn a_slip_of_any_kind_is_shown() {
    let change = |change: &Slip<'_>| {
        let mut contract = expected();
        change(&mut contract);
        differences(&expected(), &contract)
    };
    let mount = |contract: &mut Contract, key: &str, value: Option<&str>| {
        let fields = contract.get_mut("message Mount").expect("in the contract");
        match value {
            Some(value) => drop(fields.insert(key.to_owned(), value.to_owned())),
            None => drop(fields.remove(key)),
        }
    };
    let table: [(&Slip<'_>, &str); 6] = [
        (
            &|c| mount(c, "3", Some("int32 readonly")),
            "message Mount: 3 is \"int32 readonly\" and should be \"bool readonly\"",
        ),
        (
            &|c| mount(c, "3", None),
            "message Mount: 3 \"bool readonly\" is missing",
        ),
        (
            &|c| mount(c, "99", Some("bool x")),
            "message Mount: 99 Some(\"bool x\") is not in the contract",
        ),
        (&|c| drop(c.remove("message Mount")), "message Mount is missing"),
        (
            &|c| drop(c.insert("message X".to_owned(), BTreeMap::new())),
            "message X is not in the contract",
        ),
        (
            &|c| {
                let calls = c.get_mut("service RuntimeService").expect("in the contract");
                let call = calls.get_mut("GetContainerEvents").expect("in the contract");
                *call = call.replace("stream ", "");
            },
            "service RuntimeService: GetContainerEvents is \"GetEventsRequest ContainerEventResponse\" and should be \
             \"GetEventsRequest stream ContainerEventResponse\"",
        ),
    ];
    for (slip, message) in table {
        assert_eq!(change(slip), [message]);
    }
}
