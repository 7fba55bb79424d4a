//! `images --tree`: every image with its manifests below it.

use serde_json::Value;

use crate::{text, units};

/// Titles of the columns and their least widths.
const TITLES: [&str; 5] = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"];
/// Digits of an id.
const ID: usize = 12;
/// Between two columns.
const GAP: &str = "   ";

/// One line of the tree; one without cells is a further name of the image on the next line.
struct Line {
    name: String,
    cells: Option<[String; 4]>,
}

/// The tree as text, for a terminal of `width` columns.
pub fn render(images: &Value, width: usize) -> String {
    let mut lines: Vec<Option<Line>> = Vec::new();
    for image in images.as_array().into_iter().flatten() {
        lines.extend(of_image(image));
    }
    // Docker counts bytes here, so that branches make the column wider than they are.
    let known = lines.iter().flatten().map(|l| l.name.len());
    let widest = known.max().unwrap_or(0).max(TITLES[0].len());
    let title = |name: &str| format!("\x1b[39m\x1b[1m{name}\x1b[0m");
    let mut out = String::from(
        "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.\n",
    );
    out.push_str(&format!("{:>width$}\n\n", "Info ->  U In Use "));
    let [image, id, usage, content, extra] = TITLES.map(title);
    out.push_str(&format!(
        "{image}{}{GAP}{id}{}{GAP}{usage}{GAP}{content}{GAP}{extra}\n",
        " ".repeat(widest - TITLES[0].len()),
        " ".repeat(ID - TITLES[1].len()),
    ));
    for line in lines {
        match line {
            None => out.push('\n'),
            Some(Line { name, cells: None }) => out.push_str(&format!("{name}\n")),
            Some(Line { name, cells: Some([id, usage, content, extra]) }) => {
                let pad = " ".repeat(widest - name.chars().count());
                out.push_str(&format!(
                    "{name}{pad}{GAP}{id:<ID$}{GAP}{usage:>10}{GAP}{content:>12}{GAP}{extra:<5}\n"
                ));
            }
        }
    }
    out
}

/// The lines of an image that has a name; an empty one follows when there are manifests.
fn of_image(image: &Value) -> Vec<Option<Line>> {
    let names: Vec<&str> =
        image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some((last, others)) = names.split_last() else { return Vec::new() };
    let manifests: Vec<&Value> =
        image["Manifests"].as_array().into_iter().flatten().filter(|m| m["Kind"] == "image").collect();
    let used = |m: &&Value| m["ImageData"]["Containers"].as_array().is_some_and(|c| !c.is_empty());
    let sum = |key: &str| manifests.iter().filter_map(|m| m["Size"][key].as_i64()).sum::<i64>();
    let total = if manifests.is_empty() { image["Size"].as_i64().unwrap_or(0) } else { sum("Total") };
    let further = |name: &&str| Some(Line { name: (*name).to_owned(), cells: None });
    let mut lines: Vec<Option<Line>> = others.iter().map(further).collect();
    lines.push(Some(Line {
        name: (*last).to_owned(),
        cells: Some(cells(&image["Id"], total, sum("Content"), manifests.iter().any(used))),
    }));
    for (n, manifest) in manifests.iter().enumerate() {
        let branch = if n + 1 == manifests.len() { "└─" } else { "├─" };
        let size = |key: &str| manifest["Size"][key].as_i64().unwrap_or(0);
        lines.push(Some(Line {
            name: format!("{branch} {}", platform(&manifest["ImageData"]["Platform"])),
            cells: Some(cells(&manifest["ID"], size("Total"), size("Content"), used(manifest))),
        }));
    }
    if !manifests.is_empty() {
        lines.push(None);
    }
    lines
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn cells(id: &Value, total: i64, content: i64, used: bool) -> [String; 4] {
    let size = |bytes: i64| units::human_size_digits(bytes as f64, 3);
    let id = text::short_id(id.as_str().unwrap_or_default()).to_owned();
    [id, size(total), size(content), if used { "U" } else { "" }.to_owned()]
}

fn platform(platform: &Value) -> String {
    let parts = ["os", "architecture", "variant"].map(|key| platform[key].as_str().unwrap_or_default());
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_names_manifests_and_use() {
        let images = serde_json::json!([
            {"Id": format!("sha256:{}", "a".repeat(64)), "RepoTags": ["a:1", "a:2"], "Size": 5, "Manifests": [{
                "ID": format!("sha256:{}", "b".repeat(64)), "Kind": "image", "Size": {"Content": 0, "Total": 2_665_205},
                "ImageData": {"Platform": {"os": "linux", "architecture": "amd64"}, "Containers": ["c"]},
            }]},
            {"Id": "sha256:x", "RepoTags": [], "Size": 1},
        ]);
        let text = render(&images, 80);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].len(), 80);
        assert_eq!(lines[4], "a:1");
        assert_eq!(lines[5], "a:2                  aaaaaaaaaaaa       2.67MB             0B   U    ");
        assert_eq!(lines[6], "└─ linux/amd64       bbbbbbbbbbbb       2.67MB             0B   U    ");
        assert_eq!((lines[7], lines.len()), ("", 8));
    }
}
