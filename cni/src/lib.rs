//! The `bosun-cni` plugin, of the CNI specification 1.1: one synchronous process per call.
//!
//! ```text
//! environment, stdin -> call::Call (strict, bounded) -> verbs (allocate, wire, answer) -> JSON on stdout, exit status
//! ```
//! - Pure: [`call`] (what is asked), [`answer`] (results and errors in every version's form), [`plan`] (the wire of an
//!   attachment; what a previous result promised).
//! - The machine: [`verbs`], on [`bosun_net`]. [`loopback`] answers where a runtime asks for a plugin of that name.
//!
//! The process may be killed at any instant: the runtime's DEL, its GC, or the next ADD that needs the address clears
//! what it left.

pub mod answer;
pub mod call;
pub mod loopback;
pub mod plan;
pub mod verbs;

use std::{
    ffi::OsString,
    io::{self, Read},
    time::Duration,
};

use crate::{
    answer::{CniError, Code, Output},
    call::Call,
};

/// How long a call may take in all. Deleting a link is slow when hundreds are deleted at once.
const LIMIT: Duration = Duration::from_mins(1);

/// What is said when it took longer.
const LAST_WORDS: &str = "{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"bosun-cni did not finish within a minute\",\
    \"details\":\"the machine is overloaded, or a file system or the runtime's pipe hangs\"}\n";

/// No configuration is longer: a GC may list thousands of attachments.
const MAX_INPUT: u64 = 8 << 20;

/// A whole call: reads `input`, does what the environment says, gives what to print and the exit status.
pub fn run(environment: &dyn Fn(&str) -> Option<OsString>, input: &mut dyn Read) -> Output {
    let call = match call::command(environment).and_then(|command| {
        let input = read_bounded(input)?;
        Call::parse(command, environment, &input)
    }) {
        Ok(call) => call,
        Err(error) => return answer::failure(None, &error),
    };
    let version = call.version;
    match verbs::perform(&call) {
        Ok(output) => output,
        Err(error) => answer::failure(Some(version), &error),
    }
}

/// Bounds this process: see [`bosun_net::deadline`].
pub fn bound_process() -> io::Result<()> {
    bosun_net::deadline::bound_process(LIMIT, LAST_WORDS)
}

fn read_bounded(input: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_INPUT + 1).read_to_end(&mut bytes);
    read.map_err(|e| CniError::new(Code::Io, "cannot read the network configuration from stdin").because(&e))?;
    if bytes.len() as u64 > MAX_INPUT {
        let message = format!("the network configuration on stdin is longer than {MAX_INPUT} bytes");
        return Err(CniError::new(Code::Undecodable, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn run_with(environment: &[(String, String)], input: &[u8]) -> Output {
        let get = |name: &str| environment.iter().find(|(k, _)| k == name).map(|(_, v)| v.into());
        run(&get, &mut &input[..])
    }

    #[test]
    fn the_last_words_are_an_error_in_cnis_form() {
        let words: Value = serde_json::from_str(LAST_WORDS).unwrap();
        assert_eq!(words["code"], Code::TryAgain as u32);
    }

    #[test]
    fn an_endless_input_is_cut_off() {
        let environment = [("CNI_COMMAND".to_owned(), "VERSION".to_owned())];
        let get = |name: &str| environment.iter().find(|(k, _)| k == name).map(|(_, v)| v.into());
        let output = run(&get, &mut io::repeat(b' '));
        assert_eq!((output.status, output.json["code"].as_u64()), (1, Some(6)));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// No verb is among these commands that would touch the machine.
        #[test]
        fn whatever_comes_in_an_answer_in_cnis_form_comes_out(
            command in prop_oneof![Just("VERSION".to_owned()), "[A-Z]{0,8}", Just("ADD".to_owned())],
            id in "\\PC{0,4}",
            input in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                r#"\{"cniVersion":"[0-9.]{0,6}","name":"[a-z/]{0,3}","ranges":\[("[0-9./]{0,9}")?\],"type":"[a-z]{0,3}"\}"#
                    .prop_map(String::into_bytes),
            ],
        ) {
            prop_assume!(!["DEL", "GC", "STATUS", "CHECK"].contains(&command.as_str()));
            let mut environment = vec![("CNI_COMMAND".to_owned(), command)];
            // Without a namespace an ADD ends before it does anything.
            environment.push(("CNI_CONTAINERID".into(), id.clone()));
            environment.push(("CNI_IFNAME".into(), id));
            let output = run_with(&environment, &input);
            prop_assert!(output.json["cniVersion"].is_string(), "{}", output.json);
            if output.status == 0 {
                prop_assert!(output.json["supportedVersions"].is_array());
            } else {
                prop_assert!(output.json["code"].as_u64().is_some_and(|code| code > 0), "{}", output.json);
                prop_assert!(output.json["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{}", output.json);
            }
        }
    }
}
