use super::*;

const POD: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","resourceVersion":"7",
    "creationTimestamp":"2026-11-20T10:00:00Z"},"spec":{"containers":[{"name":"a"},{"name":"b"}]},
    "status":{"phase":"Running"}}"#;

fn tables(query: &str) -> Tables {
    let now = "2026-11-20T11:00:00Z".parse().unwrap();
    let kind = (&Arc::from(""), &Arc::from("Pod"));
    Tables::new(kind, MetaVersion::V1, &Query::parse(query).unwrap(), now).unwrap()
}

fn parsed(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

#[test]
fn a_table_of_one_object_has_its_version_its_cells_and_its_metadata() {
    let table = parsed(&tables("").single(POD, true));
    assert_eq!(
        (&table["kind"], &table["apiVersion"]),
        (&json!("Table"), &json!("meta.k8s.io/v1"))
    );
    assert_eq!(table["metadata"], json!({"resourceVersion": "7"}));
    let names: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..5], ["Name", "Ready", "Status", "Restarts", "Age"]);
    let row = &table["rows"][0];
    assert_eq!(row["cells"][0], "web");
    assert_eq!(row["cells"].as_array().unwrap().len(), names.len());
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"], parsed(POD)["metadata"]);
}

#[test]
fn a_client_says_what_rows_carry_and_who_has_the_columns_is_not_told_again() {
    let none = parsed(&tables("includeObject=None").single(POD, false));
    assert_eq!(
        (&none["columnDefinitions"], none["rows"][0].get("object")),
        (&Value::Null, None)
    );
    let object = parsed(&tables("includeObject=Object").single(POD, false));
    assert_eq!(object["rows"][0]["object"], parsed(POD));
    let kind = (&Arc::from(""), &Arc::from("Pod"));
    let odd = Query::parse("includeObject=Some").unwrap();
    let refused = Tables::new(kind, MetaVersion::V1, &odd, Timestamp::UNIX_EPOCH);
    assert_eq!(refused.err().map(|status| status.reason), Some(Reason::BadRequest));
}

#[test]
fn a_bookmark_is_a_table_without_rows() {
    let bookmark = br#"{"kind":"Pod","metadata":{"resourceVersion":"9"}}"#;
    let table = parsed(&tables("").bookmark(bookmark, false));
    assert_eq!(
        (&table["metadata"]["resourceVersion"], &table["rows"]),
        (&json!("9"), &json!([]))
    );
}
