use super::*;
use crate::http::negotiate::MetaVersion;

fn encoder(format: Format, representation: Representation) -> Encoder {
    Encoder {
        answer: Answer {
            format,
            representation,
            pretty: false,
        },
        tables: None,
    }
}

fn pod(name: &str) -> Bytes {
    format!(r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"containers":[]}}}}"#).into()
}

const HEAD: ListHead<'_> = ListHead {
    api_version: "v1",
    kind: "PodList",
    resource_version: String::new(),
    continue_token: "next",
    remaining: Some(3),
};

fn bytes(pieces: Pieces) -> Bytes {
    pieces.flatten().collect()
}

#[test]
fn a_list_is_its_items_byte_for_byte() {
    let list = encoder(Format::Json, Representation::Object).list(&HEAD, [pod("a"), pod("b")].into_iter());
    let expected = [
        br#"{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"","continue":"next","#.as_slice(),
        br#""remainingItemCount":3},"items":["#,
        &pod("a"),
        b",",
        &pod("b"),
        b"]}\n",
    ];
    assert_eq!(bytes(list.unwrap()), expected.concat());
}

#[test]
fn a_list_in_other_forms_says_the_same() {
    let items = || [pod("a"), pod("b")].into_iter();
    let json: Value = serde_json::from_slice(&bytes(
        encoder(Format::Json, Representation::Object)
            .list(&HEAD, items())
            .unwrap(),
    ))
    .unwrap();
    let yaml = bytes(
        encoder(Format::Yaml, Representation::Object)
            .list(&HEAD, items())
            .unwrap(),
    );
    assert_eq!(bosun_schema::decode::yaml(&yaml).unwrap().value, json);
    let message = bytes(
        encoder(Format::Protobuf, Representation::Object)
            .list(&HEAD, items())
            .unwrap(),
    );
    let decoded = protobuf::decode(&message, None).unwrap();
    assert_eq!(decoded["items"][1]["metadata"]["name"], "b");
    assert_eq!(decoded["metadata"]["continue"], "next");
    let partial = encoder(Format::Json, Representation::Metadata(MetaVersion::V1)).list(&HEAD, items());
    let partial: Value = serde_json::from_slice(&bytes(partial.unwrap())).unwrap();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(
        partial["items"][0],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "a"}})
    );
}

#[test]
fn an_event_is_framed_as_its_format_wants() {
    let json = encoder(Format::Json, Representation::Object)
        .event("ADDED", pod("a"), true)
        .unwrap();
    assert_eq!(
        json,
        [br#"{"type":"ADDED","object":"#.as_slice(), &pod("a"), b"}\n"].concat()
    );
    let partial = encoder(Format::Json, Representation::Metadata(MetaVersion::V1))
        .event("MODIFIED", pod("a"), false)
        .unwrap();
    let partial: Value = serde_json::from_slice(&partial).unwrap();
    assert_eq!(partial["object"]["kind"], "PartialObjectMetadata");
    let frame = encoder(Format::Protobuf, Representation::Object)
        .event("DELETED", pod("a"), true)
        .unwrap();
    assert_eq!(
        u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize,
        frame.len() - 4
    );
    let status = Status::new(Reason::Expired, "too old").to_json().to_string();
    let error = encoder(Format::Json, Representation::Metadata(MetaVersion::V1))
        .event("ERROR", status.into(), true)
        .unwrap();
    assert!(String::from_utf8_lossy(&error).contains("\"kind\":\"Status\""));
}
