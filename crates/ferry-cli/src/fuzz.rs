//! What of the command line reads text from strangers, for the fuzz targets of `ferry-testkit`.

use crate::format::template::{Format, typed};
use crate::opts;

/// `-p` and `--expose`.
pub fn ports(text: &str) {
    let mut bindings = opts::ports::Bindings::new();
    // Refusals are what most inputs deserve.
    let _ = opts::ports::publish(text, &mut bindings);
    let _ = opts::ports::expose(text);
}

/// `--mount`, `-v` and `--tmpfs`.
pub fn mounts(text: &str) {
    let _ = opts::mount::parse(text);
    let _ = opts::mount::volumes(&[text.to_owned()]);
    let _ = opts::mount::tmpfs(&[text.to_owned()]);
}

/// `--filter`.
pub fn filter(text: &str) {
    if let Ok(checked) = opts::filter::check(text) {
        let parameter = opts::filter::parameter(&[checked]);
        assert!(serde_json::from_str::<serde_json::Value>(&parameter).is_ok(), "{parameter}");
    }
}

/// `--format` of commands that list and of commands that show objects.
pub fn template(text: &str) {
    let object = serde_json::json!({
        "ID": "0123456789abcdef0123456789abcdef", "Name": "a-b-c", "Names": "x", "Number": 1.5, "Args": ["a", "b"],
        "Status": "Up", "State": {"Running": true, "Pid": 42}, "Config": {"Labels": {"a": "b", "c": "d"}},
        "Mounts": [{"Source": "/s", "RW": true}], "Nothing": null,
    });
    if let Ok(parsed) = Format::parse(text) {
        for of in ["", "ContainerInspect"] {
            let _ = parsed.show(&object, of);
        }
    }
    if let Ok(parsed) = Format::parse_list(text) {
        let data = typed(&object, "");
        let _ = parsed.run(&data);
        let _ = parsed.titles(&data);
    }
}
