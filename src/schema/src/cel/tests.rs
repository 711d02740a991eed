use proptest::prelude::*;
use serde_json::{Value, json};

use crate::custom::Definition;

/// A definition whose `spec` has this schema and these rules.
fn definition(properties: &Value, rules: &Value) -> Value {
    json!({
        "metadata": {"name": "xs.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "xs", "kind": "X"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": properties, "x-kubernetes-validations": rules},
            }}}}],
        },
    })
}

fn properties() -> Value {
    json!({
        "n": {"type": "integer"},
        "max": {"type": "integer"},
        "f": {"type": "number"},
        "name": {"type": "string"},
        "my_field": {"type": "string"},
        "with-dash": {"type": "string"},
        "namespace": {"type": "string"},
        "when": {"type": "string", "format": "date-time"},
        "every": {"type": "string", "format": "duration"},
        "secret": {"type": "string", "format": "byte"},
        "port": {"x-kubernetes-int-or-string": true},
        "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
        "plain": {"type": "array", "items": {"type": "object", "properties": {"v": {"type": "integer"}}}},
        "items": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}},
        },
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "inner": {"type": "object", "properties": {"deep": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
    })
}

fn object(spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "X", "metadata": {"name": "it"}, "spec": spec})
}

fn told(definition: &Value, spec: &Value, old: Option<&Value>) -> Vec<String> {
    let parsed = Definition::parse(definition).unwrap_or_else(|errors| panic!("{definition}: {errors:?}"));
    let old = old.map(object);
    let errors = parsed.version("v1").unwrap().validate(&object(spec), old.as_ref());
    errors.iter().map(ToString::to_string).collect()
}

fn holds(rule: &str, spec: &Value) -> bool {
    let errors = told(
        &definition(&properties(), &json!([{"rule": rule, "message": "no"}])),
        spec,
        None,
    );
    match errors.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => true,
        [r#"spec: Invalid value: "object": no"#] => false,
        _ => panic!("{rule}: {errors:?}"),
    }
}

#[test]
fn rules_hold_or_do_not() {
    let spec = json!({
        "n": 2, "max": 5, "f": 1, "name": "abc", "my_field": "m", "with-dash": "d", "namespace": "n",
        "when": "2026-05-01T00:00:00Z", "every": "90s", "secret": "AAEC", "port": "80", "tags": ["a", "b"],
        "plain": [{"v": 1}, {"v": 2}], "items": [{"k": "a", "v": 1}, {"k": "b"}],
        "labels": {"app.kubernetes.io/name": "x", "my_key": "y"}, "inner": {"deep": {"x": 7}},
    });
    let table = [
        ("self.n <= self.max", true),
        ("self.n > self.max", false),
        ("self.f + 0.5 == 1.5", true),
        ("has(self.name) && self.name.startsWith('a')", true),
        (
            "self.my_field == 'm' && self.with__dash__dash == 'd' && self.__namespace__ == 'n'",
            true,
        ),
        ("self.when < timestamp('2027-01-01T00:00:00Z')", true),
        ("self.every == duration('1m30s')", true),
        ("size(self.secret) == 3", true),
        ("self.port == '80'", true),
        ("'a' in self.tags && !('c' in self.tags)", true),
        ("self.tags.all(t, t.matches('^[a-z]$'))", true),
        ("self.plain.map(p, p.v) == [1, 2]", true),
        ("self.items.exists(i, i.k == 'b' && !has(i.v))", true),
        ("self.items.filter(i, has(i.v)).size() == 1", true),
        (
            "self.labels['app.kubernetes.io/name'] == 'x' && self.labels.my_key == 'y'",
            true,
        ),
        ("self.labels.all(k, k.size() < 30)", true),
        ("self.inner.deep.x == 7", true),
        ("has(self.inner.deep) && has(self.inner.deep.x)", true),
        ("self.plain.all(p, self.items.exists(i, i.k == 'a' && p.v > 0))", true),
        ("self.n in [1, 2, 3] ? self.name == 'abc' : false", true),
        (
            "self.name.replace('b', 'x') == 'axc' && ['a', 'b'].join('-') == 'a-b'",
            true,
        ),
        ("quantity('1Gi').isGreaterThan(quantity('500Mi'))", true),
        ("sets.contains(self.tags, ['a'])", true),
        ("isURL('https://example.com') && !isURL('no')", true),
        ("cidr('10.0.0.0/8').containsIP('10.1.2.3')", true),
        ("'%s-%d'.format([self.name, self.n]) == 'abc-2'", true),
        ("self.name == 'abc' || self.name / 0 == 1", true),
        (
            "type(self.port) == string && type(self.n) == int && type(self.tags) != map",
            true,
        ),
        ("type(self.port) == int ? dyn(self.port) > 0 : self.port == '80'", true),
        (
            "bool('true') && math.greatest(1, 2) == 2 && base64.encode(b'a') == 'YQ=='",
            true,
        ),
        ("self.tags.exists(string, string == 'a')", true),
    ];
    for (rule, expected) in table {
        assert_eq!(holds(rule, &spec), expected, "{rule}");
    }
}

#[test]
fn a_rule_at_the_root_sees_the_name_and_one_below_its_value() {
    let mut whole = definition(
        &json!({"n": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > 0"}]}}),
        &json!([]),
    );
    let schema = &mut whole["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["x-kubernetes-validations"] =
        json!([{"rule": "self.metadata.name == 'it' && self.kind == 'X'"}, {"rule": "self.spec.n < 5"}]);
    assert_eq!(told(&whole, &json!({"n": 1}), None), [""; 0]);
    assert_eq!(
        told(&whole, &json!({"n": 9}), None),
        [r#"<nil>: Invalid value: "object": failed rule: self.spec.n < 5"#]
    );
    assert_eq!(
        told(&whole, &json!({"n": -1}), None),
        [r#"spec.n: Invalid value: "integer": failed rule: self > 0"#]
    );
}

#[test]
fn rules_work_on_lists_texts_and_raw_patterns_as_people_write_them() {
    let parents = json!({
        "type": "array", "maxItems": 32,
        "items": {"type": "object", "properties": {
            "group": {"type": "string", "default": "g"}, "name": {"type": "string"}, "namespace": {"type": "string"},
            "section": {"type": "string"},
        }},
        "x-kubernetes-validations": [
            {
                "message": "section must be told where parents are alike",
                "rule": "self.all(p1, self.all(p2, p1.group == p2.group && p1.name == p2.name && (((!has(p1.__namespace__) || \
                         p1.__namespace__ == '') && (!has(p2.__namespace__) || p2.__namespace__ == '')) || \
                         (has(p1.__namespace__) && has(p2.__namespace__) && p1.__namespace__ == p2.__namespace__)) ? \
                         ((!has(p1.section) || p1.section == '') == (!has(p2.section) || p2.section == '')) : true))",
            },
            {
                "message": "section must be unique",
                "rule": "self.all(p1, self.exists_one(p2, p1.name == p2.name && (has(p1.section) == has(p2.section)) && \
                         (!has(p1.section) || p1.section == p2.section)))",
            },
        ],
    });
    let path = json!({
        "type": "object", "properties": {"type": {"type": "string"}, "value": {"type": "string"}},
        "x-kubernetes-validations": [
            {"message": "must start with a slash", "rule": "(self.type in ['Exact','Prefix']) ? self.value.startsWith('/') : true"},
            {
                "message": "must be a path",
                "rule": r#"self.type != 'Exact' || self.value.matches(r"""^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$""")"#,
            },
        ],
    });
    let timeouts = json!({
        "type": "object", "properties": {"request": {"type": "string"}, "backend": {"type": "string"}},
        "x-kubernetes-validations": [{
            "message": "backend may not be longer",
            "rule": "!(has(self.request) && has(self.backend) && duration(self.request) != duration('0s') && \
                     duration(self.backend) > duration(self.request))",
        }],
    });
    let definition = definition(
        &json!({"parents": parents, "path": path, "timeouts": timeouts}),
        &json!([]),
    );
    let good = json!({
        "parents": [{"group": "g", "name": "a"}, {"group": "g", "name": "b", "namespace": "x", "section": "s"}],
        "path": {"type": "Exact", "value": "/a%20b"},
        "timeouts": {"request": "10s", "backend": "1500ms"},
    });
    assert_eq!(told(&definition, &good, None), [""; 0]);
    let bad = json!({
        "parents": [{"group": "g", "name": "a"}, {"group": "g", "name": "a", "section": "s"}, {"group": "g", "name": "a"}],
        "path": {"type": "Exact", "value": "a b"},
        "timeouts": {"request": "1s", "backend": "1m"},
    });
    assert_eq!(
        told(&definition, &bad, None),
        [
            r#"spec.parents: Invalid value: "array": section must be told where parents are alike"#,
            r#"spec.parents: Invalid value: "array": section must be unique"#,
            r#"spec.path: Invalid value: "object": must start with a slash"#,
            r#"spec.path: Invalid value: "object": must be a path"#,
            r#"spec.timeouts: Invalid value: "object": backend may not be longer"#,
        ]
    );
}

#[test]
fn a_failed_rule_tells_its_message_reason_and_field() {
    let rule = |more: Value| {
        let mut rule = json!({"rule": "self.n < 3"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        definition(&properties(), &json!([rule]))
    };
    let table = [
        (json!({}), r#"spec: Invalid value: "object": failed rule: self.n < 3"#),
        (
            json!({"message": " too many "}),
            r#"spec: Invalid value: "object": too many"#,
        ),
        (
            json!({"messageExpression": "'n is ' + string(self.n)"}),
            r#"spec: Invalid value: "object": n is 7"#,
        ),
        (
            json!({"message": "fallback", "messageExpression": "'a\\nb'"}),
            r#"spec: Invalid value: "object": fallback"#,
        ),
        (
            json!({"message": "fallback", "messageExpression": "self.inner.deep.x"}),
            r#"spec: Invalid value: "object": fallback"#,
        ),
        (
            json!({"message": "m", "reason": "FieldValueForbidden", "fieldPath": ".n"}),
            "spec.n: Forbidden: m",
        ),
        (
            json!({"message": "m", "reason": "FieldValueRequired"}),
            "spec: Required value: m",
        ),
        (
            json!({"message": "m", "reason": "FieldValueDuplicate"}),
            r#"spec: Duplicate value: "object""#,
        ),
        (
            json!({"message": "m", "fieldPath": ".inner.deep"}),
            r#"spec.inner.deep: Invalid value: "object": m"#,
        ),
    ];
    for (more, expected) in table {
        assert_eq!(told(&rule(more), &json!({"n": 7}), None), [expected]);
    }
}

#[test]
fn rules_about_a_change_run_when_there_was_something() {
    let item_rule = json!([{"rule": "!has(oldSelf.v) || self.v >= oldSelf.v", "message": "v shrinks"}]);
    let mut properties = properties();
    properties["items"]["items"]["x-kubernetes-validations"] = item_rule;
    properties["name"]["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf", "message": "immutable"}]);
    let definition = definition(
        &properties,
        &json!([{"rule": "has(self.n) || !has(oldSelf.n)", "message": "n may not go"}]),
    );
    let old = json!({"name": "a", "n": 1, "items": [{"k": "x", "v": 5}, {"k": "y", "v": 1}]});
    assert_eq!(
        told(&definition, &json!({"name": "b", "items": [{"k": "x", "v": 1}]}), None),
        [""; 0]
    );
    assert_eq!(told(&definition, &old, Some(&old)), [""; 0]);
    assert_eq!(
        told(
            &definition,
            &json!({"name": "b", "items": [{"k": "y", "v": 2}, {"k": "x", "v": 4}, {"k": "new", "v": 0}]}),
            Some(&old)
        ),
        [
            r#"spec: Invalid value: "object": n may not go"#,
            r#"spec.name: Invalid value: "string": immutable"#,
            r#"spec.items[1]: Invalid value: "object": v shrinks"#,
        ]
    );
}

#[test]
fn an_optional_old_self_lets_a_rule_run_on_creation_too() {
    let rules = json!([{"rule": "!oldSelf.hasValue() || self.n >= oldSelf.value().n", "message": "no", "optionalOldSelf": true}]);
    let definition = definition(&properties(), &rules);
    assert_eq!(told(&definition, &json!({"n": 1}), None), [""; 0]);
    assert_eq!(told(&definition, &json!({"n": 2}), Some(&json!({"n": 1}))), [""; 0]);
    assert_eq!(
        told(&definition, &json!({"n": 0}), Some(&json!({"n": 1}))),
        [r#"spec: Invalid value: "object": no"#]
    );
}

#[test]
fn an_unchanged_value_is_not_held_against_an_update() {
    let rules = json!([{"rule": "self.n < 3", "message": "no"}]);
    let definition = definition(&properties(), &rules);
    assert_eq!(told(&definition, &json!({"n": 7}), Some(&json!({"n": 7}))), [""; 0]);
    assert_eq!(told(&definition, &json!({"n": 8}), Some(&json!({"n": 7}))).len(), 1);
}

#[test]
fn errors_while_a_rule_runs_fail_it() {
    let table = [
        (
            "self.n / self.max == 1",
            json!({"n": 1, "max": 0}),
            "division by zero evaluating rule: m",
        ),
        ("self.n > 0", json!({}), "no such key: n evaluating rule: m"),
        (
            "self.labels['x'] == 'y'",
            json!({"labels": {}}),
            "no such key: x evaluating rule: m",
        ),
        ("self.n", json!({"n": 1}), "rule must evaluate to a bool: m"),
        ("self.name + 1 == 'a'", json!({"name": "a"}), "'no such overload'"),
    ];
    for (rule, spec, expected) in table {
        let errors = told(
            &definition(&properties(), &json!([{"rule": rule, "message": "m"}])),
            &spec,
            None,
        );
        let [error] = &errors[..] else {
            panic!("{rule}: {errors:?}");
        };
        let detail = error.strip_prefix(r#"spec: Invalid value: "object": "#).unwrap();
        assert!(detail.starts_with(expected), "{rule}: {error}");
    }
}

#[test]
fn rules_that_cannot_work_are_refused_with_their_definition() {
    let table = [
        (json!({"rule": " "}), "rule: Required value: rule is not specified"),
        (
            json!({"rule": "self.n >"}),
            "rule: Invalid value: {\"rule\":\"self.n >\"}: compilation failed: ",
        ),
        (
            json!({"rule": "self.nope == 1"}),
            "rule: Invalid value: {\"rule\":\"self.nope == 1\"}: compilation failed: undefined field 'nope'",
        ),
        (
            json!({"rule": "other == 1"}),
            "rule: Invalid value: {\"rule\":\"other == 1\"}: compilation failed: undeclared reference to 'other'",
        ),
        (
            json!({"rule": "self.name.twist()"}),
            "rule: Invalid value: {\"rule\":\"self.name.twist()\"}: compilation failed: undeclared reference to 'twist'",
        ),
        (
            json!({"rule": "sets.twist([], [])"}),
            "rule: Invalid value: {\"rule\":\"sets.twist([], [])\"}: compilation failed: undeclared reference to 'twist'",
        ),
        (
            json!({"rule": "self.name.matches('[')"}),
            "rule: Invalid value: {\"rule\":\"self.name.matches('[')\"}: compilation failed: invalid matches argument",
        ),
        (json!({"rule": "X{a: 1} == X{a: 1}"}), "rule: Invalid value"),
        (
            json!({"rule": "true", "message": " "}),
            "message: Invalid value: \" \": message must be non-empty if specified",
        ),
        (
            json!({"rule": "true", "message": "a\nb"}),
            "message: Invalid value: \"a\\nb\": message must not contain line breaks",
        ),
        (
            json!({"rule": "true &&\ntrue"}),
            "message: Required value: message must be specified if rule contains line breaks",
        ),
        (
            json!({"rule": "true", "reason": "Mood"}),
            "reason: Unsupported value: \"Mood\"",
        ),
        (
            json!({"rule": "true", "fieldPath": ".nope"}),
            "fieldPath: Invalid value: \".nope\": fieldPath must be a valid path",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            "optionalOldSelf: Invalid value: true: optionalOldSelf may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "true", "messageExpression": "'"}),
            "messageExpression: Invalid value",
        ),
        (
            json!({"rule": format!("{}true{}", "(".repeat(300), ")".repeat(300))}),
            "rule: Invalid value",
        ),
        (
            json!({"rule": format!("true{}", " || true".repeat(9000))}),
            "rule: Invalid value",
        ),
    ];
    for (rule, expected) in table {
        let errors = Definition::parse(&definition(&properties(), &json!([rule]))).unwrap_err();
        let expected =
            format!("spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].{expected}");
        assert!(
            errors.iter().any(|error| error.to_string().starts_with(&expected)),
            "{expected}\n{errors:?}"
        );
    }
    let mut uncorrelated = properties();
    uncorrelated["plain"]["items"]["x-kubernetes-validations"] = json!([{"rule": "self.v == oldSelf.v"}]);
    let errors = Definition::parse(&definition(&uncorrelated, &json!([]))).unwrap_err();
    assert!(
        errors[0].to_string().ends_with(
            "oldSelf cannot be used on the uncorrelatable portion of the schema within \
         spec.validation.openAPIV3Schema.properties[spec].properties[plain]"
        ),
        "{errors:?}"
    );
}

#[test]
fn no_rule_runs_beyond_its_budget() {
    let numbers: Vec<Value> = (0..20_000).map(|number| json!({"v": number})).collect();
    let words: Vec<String> = (0..20_000).map(|number| format!("word-{number}")).collect();
    let spec = json!({"plain": numbers, "tags": words, "name": "x".repeat(200_000)});
    let rules = [
        "self.plain.all(a, self.plain.all(b, a.v + b.v >= 0))",
        "self.plain.map(a, a.v).map(a, a + 1).size() > 0",
        "self.tags.all(a, self.tags.exists(b, a == b))",
        "sets.equivalent(self.tags, self.tags)",
        "self.tags.distinct().size() > 0",
        "self.name.replace('', self.name).size() > 0",
        "self.tags.join(self.name).size() > 0",
        "lists.range(1000000000).size() > 0",
        "'%.999999999f'.format([1.0]).size() > 0",
        "self.tags.all(a, self.name.contains(a))",
        "self.tags.all(a, a.matches('^w.*' + a))",
    ];
    for rule in rules {
        let definition = definition(&properties(), &json!([{"rule": rule, "message": "m"}]));
        let start = std::time::Instant::now();
        let errors = told(&definition, &spec, None);
        assert_eq!(errors.len(), 1, "{rule}");
        // A bound for a debug build on a busy machine; what is bounded would take hours.
        assert!(
            start.elapsed() < std::time::Duration::from_secs(60),
            "{rule}: {:?}",
            start.elapsed()
        );
    }
}

fn rule() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "self.n",
        "self.name",
        "self.tags",
        "self.items",
        "self.labels",
        "oldSelf.n",
        "1",
        "0",
        "'a'",
        "[]",
        "{}",
        "null",
        "true",
        "1.5",
        "self",
        "x",
        "duration('1s')",
        "-1",
        "9223372036854775807",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "<", "&&", "||", "in"]);
        let macro_name = prop::sample::select(vec!["all", "exists", "map", "filter", "exists_one"]);
        let method = prop::sample::select(vec![
            "size",
            "join",
            "distinct",
            "sum",
            "lowerAscii",
            "split",
            "indexOf",
            "slice",
            "format",
        ]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (inner.clone(), macro_name, inner.clone()).prop_map(|(a, name, b)| format!("{a}.{name}(x, {b})")),
            (inner.clone(), method, inner.clone()).prop_map(|(a, name, b)| format!("{a}.{name}({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.prop_map(|a| format!("has({a}.n)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_rule_panics(rule in rule(), text in ".{0,20}") {
        let spec = json!({"n": 1, "name": "a", "tags": ["a"], "items": [{"k": "a"}], "labels": {"a": "b"}});
        for rule in [rule, text] {
            let definition = definition(&properties(), &json!([{"rule": rule, "message": "m"}]));
            if let Ok(parsed) = Definition::parse(&definition) {
                let _ = parsed.version("v1").unwrap().validate(&object(&spec), Some(&object(&json!({"n": 2}))));
            }
        }
    }
}
