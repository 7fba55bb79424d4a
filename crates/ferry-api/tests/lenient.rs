//! Properties of lenient decoding.

use ferry_api::container::{ContainerCreateRequest, ContainerInspect, HostConfig};
use ferry_api::json;
use proptest::prelude::*;
use serde_json::Value;

/// Any JSON, with member names of the types under test among others.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("Image".to_owned()),
        Just("HostConfig".to_owned()),
        Just("Cmd".to_owned()),
        Just("Env".to_owned()),
        Just("Memory".to_owned()),
        Just("Labels".to_owned()),
        "[a-zA-Z]{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Writes JSON with the case of every member name changed as `flips` says, in structs only: the
/// names in maps (labels, ports) are data.
fn with_case_flipped(value: &Value, flips: &mut dyn Iterator<Item = bool>) -> Value {
    const MAPS: [&str; 4] = ["Labels", "ExposedPorts", "Volumes", "Sysctls"];
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, value)| {
                    let flipped: Vec<char> = name
                        .chars()
                        .map(|c| match flips.next() {
                            Some(true) if c.is_ascii_uppercase() => c.to_ascii_lowercase(),
                            Some(true) => c.to_ascii_uppercase(),
                            _ => c,
                        })
                        .collect();
                    let value = match MAPS.contains(&name.as_str()) {
                        true => value.clone(),
                        false => with_case_flipped(value, flips),
                    };
                    (flipped.into_iter().collect(), value)
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

const CREATE: &str = r#"{"Hostname":"h","Image":"debian","Cmd":["a","b"],"Env":["X=1"],"Labels":{"aB":"c"},
    "ExposedPorts":{"80/tcp":{}},"HostConfig":{"Memory":5,"Binds":["/a:/b"],"ShmSize":7,
    "RestartPolicy":{"Name":"always","MaximumRetryCount":0},"Sysctls":{"net.X":"1"}},
    "NetworkingConfig":null}"#;

proptest! {
    #[test]
    fn names_may_be_in_any_case(flips in prop::collection::vec(any::<bool>(), 0..200)) {
        let value: Value = serde_json::from_str(CREATE).unwrap();
        let flipped = with_case_flipped(&value, &mut flips.into_iter());
        let decode = |v: &Value| json::from_slice::<ContainerCreateRequest>(v.to_string().as_bytes()).unwrap();
        prop_assert_eq!(decode(&flipped), decode(&value));
    }

    #[test]
    fn no_json_breaks_the_decoder_and_what_it_reads_it_reads_again(value in any_json()) {
        if let Ok(request) = json::from_slice::<ContainerCreateRequest>(value.to_string().as_bytes()) {
            let text = json::to_vec(&request).unwrap();
            prop_assert_eq!(json::from_slice::<ContainerCreateRequest>(&text).unwrap(), request);
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = json::from_slice::<HostConfig>(&bytes);
    }

    #[test]
    fn cut_off_json_is_an_unexpected_end(cut in 1..CREATE.len()) {
        let error = json::from_slice::<ContainerCreateRequest>(&CREATE.as_bytes()[..cut]).unwrap_err();
        prop_assert_eq!(error.to_string(), "invalid JSON: unexpected EOF");
    }
}

#[test]
fn deep_nesting_is_refused() {
    let deep = format!("{{\"X\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    json::from_slice::<ContainerInspect>(deep.as_bytes()).unwrap_err();
}

#[test]
fn big_requests_are_read() {
    let env: Vec<String> = (0..10_000).map(|i| format!("NAME_{i}={}", "x".repeat(100))).collect();
    let body = serde_json::json!({"image": "a", "env": env}).to_string();
    let request: ContainerCreateRequest = json::from_slice(body.as_bytes()).unwrap();
    assert_eq!(request.config.env.len(), 10_000);
}
