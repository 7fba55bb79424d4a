//! Each case of `testdata/cases.jsonl` is a template and what Go's own text/template (1.26) makes of it.

use super::*;

fn data() -> Value {
    let json = serde_json::json!({
        "A": "x,Y", "N": 7, "F": 1.5, "B": true, "L": ["a", "b", "c"], "M": {"k": "v", "n": 3},
        "E": "", "Nil": null, "Big": u64::MAX, "T": "<a href='x'>&\"q\"</a> = b/c"
    });
    let Value::Map(map) = Value::guessed(&json) else { panic!("an object is a map") };
    let mut items = map.items.clone();
    items.insert("S".into(), Value::texts(["p".to_owned(), "q".to_owned()]));
    Value::Map(std::rc::Rc::new(value::Map { key: map.key, of: map.of.clone(), nil: false, items }))
}

#[test]
fn templates_do_what_go_does() {
    let data = data();
    let mut wrong = Vec::new();
    for line in include_str!("testdata/cases.jsonl").lines() {
        let (source, want): (String, String) = serde_json::from_str(line).unwrap();
        let got = match Template::parse("", &source) {
            Err(e) => format!("PARSE {e}"),
            Ok(template) => match template.execute(&data, Missing::NoValue, false) {
                Err(e) => format!("EXEC {e}"),
                Ok(text) => format!("OK {text}"),
            },
        };
        if got != want {
            wrong.push(format!("{source}\n  go:    {want}\n  ferry: {got}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn types_of_the_engine() {
    let object = serde_json::json!({
        "Id": "i", "State": {"Status": "exited", "ExitCode": 3},
        "HostConfig": {"NanoCpus": 5, "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "1"}]},
            "Ulimits": [{"Name": "nofile", "Hard": 2, "Soft": 1}]},
        "Config": {"Labels": {"a": "b"}, "Healthcheck": {"Interval": 90_000_000_000_i64}}
    });
    let typed = Value::typed(&object, &schema::of("container.InspectResponse").unwrap());
    for (source, want) in [
        ("{{.ID}} {{.State.ExitCode}} {{.RestartCount}}", "i 3 0"),
        ("{{.HostConfig.PortBindings}} {{.Config.Volumes}}", "map[80/tcp:[{ 1}]] map[]"),
        ("{{.HostConfig.Ulimits}} {{.HostConfig.NanoCPUs}}", "[nofile=1:2] 5"),
        ("{{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck}}", "1m30s {\"Interval\":90000000000}"),
        ("{{.Config.Labels.none}}|{{index .Config.Labels \"none\"}}|", "<no value>||"),
        ("{{.State.Health}}", "<nil>"),
        (
            "{{json .State}}",
            "{\"Status\":\"exited\",\"Running\":false,\"Paused\":false,\"Restarting\":false,\"OOMKilled\":false,\"Dead\":false,\"Pid\":0,\"ExitCode\":3,\"Error\":\"\",\"StartedAt\":\"\",\"FinishedAt\":\"\"}",
        ),
    ] {
        let got = Template::parse("", source).unwrap().execute(&typed, Missing::NoValue, false);
        assert_eq!(got.as_deref(), Ok(want), "{source}");
    }
    for (source, want) in [
        ("{{.State.Health.Status}}", "nil pointer evaluating *container.Health.Status"),
        ("{{.Nope}}", "can't evaluate field Nope in type container.InspectResponse"),
    ] {
        let e = Template::parse("", source).unwrap().execute(&typed, Missing::NoValue, false).unwrap_err();
        assert!(e.ends_with(want), "{e}");
    }
}

/// Templates come from users: none may take the program down.
#[test]
fn hostile_templates_end() {
    let deep = "(".repeat(100_000);
    assert!(Template::parse("", &format!("{{{{{deep}")).is_err());
    let nested = "{{if 1}}".repeat(100_000);
    assert!(Template::parse("", &nested).is_err());
    let chain = format!("{{{{if 1}}}}{}{{{{end}}}}", "{{else if 1}}".repeat(100_000));
    assert!(Template::parse("", &chain).is_err());
    let endless = Template::parse("", "{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}").unwrap();
    assert!(endless.execute(&Value::Missing, Missing::NoValue, false).is_err());
    let wide = Template::parse("", "{{printf \"%999999999d\" 1}}").unwrap();
    assert!(wide.execute(&Value::Missing, Missing::NoValue, false).unwrap().len() < 1 << 20);
}
