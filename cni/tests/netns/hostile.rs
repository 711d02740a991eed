//! Processes killed, and callers that say anything.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    V4,
    node::{Answer, Node, ips, new_id},
    world::{Namespace, eventually},
};

/// xorshift: the same seed gives the same test.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Starts a call and kills it after a while. How long a whole one takes here is measured, so that the kills fall all
/// over it on any machine.
fn start_and_kill(node: &Node, verb: &str, id: &str, pod: &Namespace, whole: Duration, random: &mut Random) -> bool {
    let mut child = node.spawn(verb, id, Some(pod.path()), &node.config);
    let after = Duration::from_micros(random.below(whole.as_micros() as u64 * 5 / 4 + 1));
    let deadline = Instant::now() + after;
    while Instant::now() < deadline {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    child.wait_with_output().unwrap().status.success()
}

#[test]
fn killed_at_any_moment_a_call_leaves_nothing_that_del_gc_or_time_do_not_clear() {
    let seed = std::env::var("BOSUN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed_cafe);
    println!("BOSUN_SEED={seed}");
    let mut random = Random(seed);
    let node = Node::new(&["10.88.0.0/28", "fd88::/124"]);
    let timed = |verb: &str, id: &str, pod: &Namespace| {
        let start = Instant::now();
        node.call(verb, id, Some(pod.path()), &node.config).result();
        start.elapsed()
    };
    let (id, pod) = (new_id(), Namespace::new());
    let (whole_add, whole_del) = (timed("ADD", &id, &pod), timed("DEL", &id, &pod));

    let (mut finished, mut killed) = (0, 0);
    for round in 0..60 {
        let (id, pod) = (new_id(), Namespace::new());
        if start_and_kill(&node, "ADD", &id, &pod, whole_add, &mut random) {
            finished += 1;
        } else {
            killed += 1;
        }
        match round % 4 {
            // What a runtime does.
            0 => node.del(&id),
            // A runtime that lost its own memory of it.
            1 => node.gc(&[]).result().as_null().unwrap(),
            // The same sandbox tried again, then taken down by calls that are killed as well.
            2 => {
                let result = node.add(&id, &pod);
                let echo = pod.echo(ips(&result)[0]);
                node.namespace.talk_to(&echo);
                drop(echo);
                start_and_kill(&node, "DEL", &id, &pod, whole_del, &mut random);
                node.del(&id);
            }
            // The namespace just goes. Its addresses are cleared by whoever needs them: the range is small.
            _ => continue,
        }
        if round % 4 != 3 {
            let ours = |record: &String| record.contains(&id);
            assert!(!node.records().iter().any(ours), "round {round}: {:?}", node.records());
            assert_eq!(pod.link("eth0"), None, "round {round}");
        }
    }
    println!("{finished} finished before they were killed");
    assert!(
        killed > 0,
        "no call was killed before it finished: the test proves nothing"
    );
    eventually("wires go with their namespaces", || node.namespace.wires().is_empty());
    node.gc(&[]).result();
    node.assert_empty();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// In a namespace and a directory of the test's own, so that even a verb that finds its arguments good harms
    /// nothing.
    #[test]
    fn whatever_the_runtime_says_the_program_answers_in_cnis_form(
        verb in prop_oneof![
            Just("ADD"), Just("DEL"), Just("CHECK"), Just("STATUS"), Just("GC"), Just("VERSION"), Just("add"), Just("")
        ],
        id in "[a-z/.]{0,3}",
        netns in proptest::option::of("[a-z/.]{0,6}"),
        input in proptest::collection::vec(any::<u8>(), 0..120),
        key in prop_oneof![Just("name"), Just("ranges"), Just("mtu"), Just("prevResult"), Just("cniVersion"), Just("runDir")],
        value in prop_oneof![Just(json!(null)), Just(json!(-1)), Just(json!("")), Just(json!([1])), Just(json!({"a": []}))],
        raw: bool,
    ) {
        let node = Node::new(&[V4]);
        let config = if raw {
            Value::String(String::from_utf8_lossy(&input).into_owned())
        } else {
            // DEL and GC take a lost `runDir` for the usual one, which is not the test's.
            prop_assume!(key != "runDir" || !matches!(verb, "DEL" | "GC" | "STATUS"));
            node.with(key, value)
        };
        let Answer { good, json } = node.call(verb, &id, netns.as_deref(), &config);
        if !good {
            prop_assert!(json["code"].as_u64().is_some_and(|code| code > 0), "{}", json);
            prop_assert!(json["msg"].is_string() && json["cniVersion"].is_string(), "{}", json);
        }
        node.assert_empty();
    }
}
