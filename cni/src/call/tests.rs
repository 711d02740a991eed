use serde_json::json;

use super::*;

const FULL: [(&str, &str); 4] = [
    ("CNI_CONTAINERID", "c1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/run/netns/x"),
    ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web"),
];

fn config() -> Value {
    json!({ "cniVersion": "1.1.0", "name": "bosun", "type": "bosun-cni", "ranges": ["10.0.0.0/24"] })
}

fn parse(command: Command, environment: &[(&str, &str)], input: &Value) -> Result<Call, CniError> {
    let get = |name: &str| {
        environment
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.into())
    };
    Call::parse(command, &get, input.to_string().as_bytes())
}

fn failure(command: Command, environment: &[(&str, &str)], input: &Value) -> (Code, String) {
    let error = parse(command, environment, input).unwrap_err();
    (error.code, error.to_string())
}

#[test]
fn a_verb_is_one_of_six() {
    let of = |value: Option<&str>| command(&|name| value.filter(|_| name == "CNI_COMMAND").map(Into::into));
    for (text, verb) in [
        ("ADD", Command::Add),
        ("DEL", Command::Del),
        ("CHECK", Command::Check),
        ("STATUS", Command::Status),
        ("GC", Command::Gc),
        ("VERSION", Command::Version),
    ] {
        assert_eq!(of(Some(text)), Ok(verb));
    }
    for text in [Some("add"), Some("UPDATE"), Some(""), None] {
        assert_eq!(of(text).unwrap_err().code, Code::InvalidEnvironment, "{text:?}");
    }
}

#[test]
fn an_add_is_read_with_the_pods_name() {
    let Verb::Add(add) = parse(Command::Add, &FULL, &config()).unwrap().verb else {
        panic!("an ADD")
    };
    assert_eq!(
        add.attachment,
        Attachment {
            container: "c1".into(),
            ifname: "eth0".into()
        }
    );
    assert_eq!(add.netns, "/run/netns/x");
    assert_eq!(add.pod.as_deref(), Some("default/web"));
    assert_eq!(add.config.run_dir, PathBuf::from("/run/bosun"));
}

#[test]
fn each_variable_that_is_missing_or_malformed_is_named() {
    let with = |name: &'static str, value: &'static str| {
        let mut environment = FULL.to_vec();
        environment.retain(|(key, _)| *key != name);
        environment.push((name, value));
        environment
    };
    for (name, value, told) in [
        (
            "CNI_CONTAINERID",
            "",
            "the environment variable CNI_CONTAINERID is not set, or empty",
        ),
        (
            "CNI_IFNAME",
            "",
            "the environment variable CNI_IFNAME is not set, or empty",
        ),
        (
            "CNI_NETNS",
            "",
            "the environment variable CNI_NETNS is not set, or empty",
        ),
        (
            "CNI_CONTAINERID",
            "../x",
            "container id `../x` must begin with a letter or digit, hold only letters, digits, `_`, `.` and `-`, and be \
             at most 128 long",
        ),
        (
            "CNI_IFNAME",
            "a/b",
            "interface name `a/b` must have 1 to 15 characters, none of them `/`, `:` or a space, and not be `.` or `..`",
        ),
        (
            "CNI_ARGS",
            "a=b;c",
            "CNI_ARGS has `c`, which is not of the form KEY=VALUE",
        ),
    ] {
        let told = (Code::InvalidEnvironment, told.to_owned());
        assert_eq!(
            failure(Command::Add, &with(name, value), &config()),
            told,
            "{name}={value}"
        );
    }
}

#[test]
fn versions_not_spoken_and_verbs_they_lack_are_refused() {
    let in_version = |version: &str| {
        let mut config = config();
        config["cniVersion"] = version.into();
        config["prevResult"] = json!({});
        config["cni.dev/valid-attachments"] = json!([]);
        config
    };
    for (command, version, good) in [
        (Command::Add, "0.3.1", true),
        (Command::Add, "0.2.0", false),
        (Command::Add, "", false),
        (Command::Add, "2.0.0", false),
        (Command::Check, "0.3.1", false),
        (Command::Check, "0.4.0", true),
        (Command::Status, "1.0.0", false),
        (Command::Status, "1.1.0", true),
        (Command::Gc, "1.0.0", false),
        (Command::Gc, "1.1.0", true),
        // Removing goes by no version, and what VERSION is for is to find one.
        (Command::Del, "9.9.9", true),
        (Command::Version, "9.9.9", true),
    ] {
        let parsed = parse(command, &FULL, &in_version(version));
        assert_eq!(
            parsed.as_ref().err().map(|e| e.code),
            (!good).then_some(Code::IncompatibleVersion),
            "{command:?} {version}"
        );
    }
}

#[test]
fn a_del_needs_no_more_than_what_to_delete() {
    let environment = [("CNI_CONTAINERID", "c1"), ("CNI_IFNAME", "eth0")];
    for (input, network, run_dir) in [
        (json!({}), "bosun", "/run/bosun"),
        (
            json!({ "name": "other", "runDir": "/tmp/x", "ranges": ["garbage"], "mtu": -5 }),
            "other",
            "/tmp/x",
        ),
        (json!({ "runDir": 7, "cniVersion": "0.1.0" }), "bosun", "/run/bosun"),
        (json!({ "runDir": "relative" }), "bosun", "/run/bosun"),
    ] {
        let Verb::Del {
            network: got_network,
            run_dir: got_run_dir,
            attachment,
        } = parse(Command::Del, &environment, &input).unwrap().verb
        else {
            panic!("a DEL")
        };
        assert_eq!(
            (got_network.as_str(), got_run_dir),
            (network, PathBuf::from(run_dir)),
            "{input}"
        );
        assert_eq!(attachment.container, "c1");
    }
    // But a name that leads elsewhere on the disk is none.
    let (code, _) = failure(Command::Del, &environment, &json!({ "name": "../../etc" }));
    assert_eq!(code, Code::InvalidConfig);
}

#[test]
fn a_gc_without_a_list_removes_nothing() {
    assert_eq!(
        failure(Command::Gc, &[], &config()),
        (
            Code::InvalidConfig,
            "GC without `cni.dev/valid-attachments`: it must list what is to stay".to_owned()
        )
    );
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let mut input = config();
        input[key] = json!([{ "containerID": "c1", "ifname": "eth0" }]);
        let Verb::Gc { valid, .. } = parse(Command::Gc, &[], &input).unwrap().verb else {
            panic!("a GC")
        };
        assert_eq!(
            valid,
            [Attachment {
                container: "c1".into(),
                ifname: "eth0".into()
            }],
            "{key}"
        );
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_before_anything_is_done() {
    for (key, value, told) in [
        (
            "ranges",
            json!(["10.0.0.1/24"]),
            "range 10.0.0.1/24 has bits set beyond its prefix: did you mean 10.0.0.0/24?",
        ),
        (
            "ranges",
            json!([]),
            "`ranges` is empty: give one range for pods, such as 10.244.0.0/24, or one of each family",
        ),
        (
            "runDir",
            json!("relative"),
            "`runDir` relative must be an absolute path",
        ),
        (
            "mtu",
            json!(40),
            "`mtu` 40 is out of range: give 0 for the underlay's, or between 68 and 65535",
        ),
    ] {
        let mut input = config();
        input[key] = value;
        for command in [Command::Add, Command::Status] {
            assert_eq!(failure(command, &FULL, &input), (Code::InvalidConfig, told.to_owned()));
        }
    }
    let (code, told) = failure(Command::Check, &FULL, &config());
    assert_eq!(
        (code, told.as_str()),
        (
            Code::InvalidConfig,
            "CHECK without `prevResult`: it must be what ADD answered"
        )
    );
}

#[test]
fn input_that_is_no_json_object_is_told_apart_from_a_bad_configuration() {
    for input in ["", "x", "[]", "{\"cniVersion\":7}", "{\"name\":null}"] {
        let error = Call::parse(Command::Add, &|_| None, input.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::Undecodable, "{input}");
    }
    // Asking for the versions by hand takes no input.
    let call = Call::parse(Command::Version, &|_| None, b"").unwrap();
    assert_eq!((call.verb, call.version_text.as_str()), (Verb::Version, "1.1.0"));
}

#[test]
fn a_loopback_needs_no_configuration() {
    let input = json!({ "cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback" });
    let call = parse(Command::Add, &FULL, &input).unwrap();
    assert!(call.loopback);
}
