use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn selectors_are_read_and_written_in_one_form() {
    let table = [
        ("", ""),
        ("x", "x"),
        ("!x", "!x"),
        ("x=a", "x=a"),
        ("x == a", "x=a"),
        ("x!=a", "x!=a"),
        ("y=b,x=a", "x=a,y=b"),
        ("x in (b, a,b)", "x in (a,b)"),
        ("x in (a)", "x=a"),
        ("x notin (a,b)", "x notin (a,b)"),
        ("x in (,)", "x="),
        ("x in (a,)", "x in (,a)"),
        ("x=", "x="),
        ("x=,y", "x=,y"),
        ("in in (in)", "in=in"),
        ("notin", "notin"),
        ("x>1,y<2", "x>1,y<2"),
        ("a.example.com/x=1", "a.example.com/x=1"),
        (" x , ! y ", "x,!y"),
    ];
    for (text, expected) in table {
        assert_eq!(LabelSelector::parse(text).unwrap().to_string(), expected, "{text}");
    }
}

#[test]
fn mistakes_are_told_in_upstream_s_words() {
    let table = [
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("x,", "found '', expected: identifier after ','"),
        ("x=a y", "found 'y', expected: ',' or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "x a",
            "unable to parse requirement: found 'a', expected: in, notin, =, ==, !=, gt, lt",
        ),
        ("x in a", "unable to parse requirement: found 'a' expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "x in (",
            "unable to parse requirement: found '', expected: ',', ')' or identifier",
        ),
        ("x=(", "unable to parse requirement: found '(', expected: identifier"),
        (
            "x>a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' operators, the value must be an \
             integer",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), expected, "{text}");
    }
    let error = LabelSelector::parse("-x=a").unwrap_err().to_string();
    assert!(error.starts_with("unable to parse requirement: key: Invalid value: \"-x\": name part must"));
    let error = LabelSelector::parse("x=-").unwrap_err().to_string();
    assert!(error.starts_with("unable to parse requirement: values[0][x]: Invalid value: \"-\""));
}

#[test]
fn objects_are_selected_by_their_labels() {
    let labels = |key: &str| {
        [("app", "web"), ("n", "5"), ("e", "")]
            .iter()
            .find(|one| one.0 == key)
            .map(|one| one.1)
    };
    let table = [
        ("", true),
        ("app", true),
        ("app=web", true),
        ("app=db", false),
        ("app!=db", true),
        ("app!=web", false),
        ("tier!=a", true),
        ("tier=a", false),
        ("!tier", true),
        ("!app", false),
        ("app in (db,web)", true),
        ("app notin (db,web)", false),
        ("tier notin (a)", true),
        ("e=", true),
        ("tier=", false),
        ("n>4,n<6", true),
        ("n>5", false),
        ("app>1", false),
        ("tier<1", false),
        ("app=web,!tier,n", true),
        ("app=web,tier", false),
    ];
    for (text, expected) in table {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(labels), expected, "{text}");
    }
}

#[test]
fn a_selector_of_an_object_is_the_same_one() {
    let table = [
        (json!(null), None),
        (json!({}), Some("")),
        (json!({"matchLabels": {"b": "1", "a": "2"}}), Some("a=2,b=1")),
        (
            json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["b", "a"]}, {"key": "y", "operator": "Exists"}]}),
            Some("x notin (a,b),y"),
        ),
    ];
    for (object, expected) in table {
        let selector = LabelSelector::from_object(&object).unwrap();
        assert_eq!(selector.map(|one| one.to_string()).as_deref(), expected, "{object}");
    }
    let wrong = json!({"matchExpressions": [{"key": "x", "operator": "Near"}]});
    let error = LabelSelector::from_object(&wrong).unwrap_err().to_string();
    assert_eq!(error, "\"Near\" is not a valid label selector operator");
    let empty = json!({"matchExpressions": [{"key": "x", "operator": "In"}]});
    assert!(LabelSelector::from_object(&empty).is_err());
}

fn any_requirement() -> impl Strategy<Value = Requirement> {
    let word = "[a-zA-Z0-9]([a-z.]{0,4}[a-z])?";
    let values = prop::collection::btree_set(prop_oneof![Just(String::new()), word.prop_map(String::from)], 1..4);
    (word, 0..6, values, any::<i64>()).prop_map(|(key, operator, values, number)| {
        let values = values.into_iter().collect();
        let (operator, values) = match operator {
            0 => (Operator::In, values),
            1 => (Operator::NotIn, values),
            2 => (Operator::Exists, Vec::new()),
            3 => (Operator::DoesNotExist, Vec::new()),
            4 => (
                Operator::GreaterThan,
                vec![number.unsigned_abs().min(1 << 40).to_string()],
            ),
            _ => (Operator::LessThan, vec![number.unsigned_abs().min(1 << 40).to_string()]),
        };
        Requirement { key, operator, values }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(mut requirements in prop::collection::vec(any_requirement(), 0..5)) {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        let selector = LabelSelector { requirements };
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z=!(),<> ./-]{0,40}|.{0,40}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }
    }

    #[test]
    fn a_negation_selects_the_rest(key in "[ab]", value in "[ab]?", have in prop::option::of("[ab]?")) {
        let get = |asked: &str| have.as_deref().filter(|_| asked == "a");
        let is = LabelSelector::parse(&format!("{key}={value}")).unwrap().matches(get);
        let is_not = LabelSelector::parse(&format!("{key}!={value}")).unwrap().matches(get);
        prop_assert_ne!(is, is_not);
    }
}
