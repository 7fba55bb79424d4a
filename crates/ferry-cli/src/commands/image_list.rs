//! `images`.

use clap::Args;
use ferry_client::Request;
use serde_json::Value;

use crate::app::App;
use crate::failure::{CmdResult, Failure};
use crate::format::listing::{Listing, Row};
use crate::opts::filter;
use crate::verb::{Arity, Verb};
use crate::{out, text, time, units};

/// List images
#[derive(Debug, Args)]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(long, short = 'a')]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(long, short = 'f', value_name = "filter", value_parser = filter::check)]
    filter: Vec<String>,
    #[arg(long, value_name = "string", help = super::LIST_FORMAT_HELP)]
    format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(long, short = 'q')]
    quiet: bool,
    /// List multi-platform images as a tree (EXPERIMENTAL)
    #[arg(long)]
    tree: bool,
    #[arg(hide = true)]
    args: Vec<String>,
}

const HEADERS: [(&str, &str); 7] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
];

impl Images {
    async fn show_tree(&self, app: &App, filters: &[String]) -> CmdResult {
        for (given, name) in [
            (self.quiet, "quiet"),
            (self.no_trunc, "no-trunc"),
            (self.digests, "show-digest"),
            (self.format.is_some(), "format"),
        ] {
            if given {
                return Err(Failure::new(format!("--{name} is not yet supported with --tree")));
            }
        }
        let request = Request::get("/images/json")
            .flag("all", self.all)
            .flag("manifests", true)
            .query_opt("filters", &filter::parameter(filters));
        let images = app.json(request).await?;
        let width = crate::session::terminal::size().map_or(80, |(_, columns)| usize::from(columns));
        out::print(super::image_tree::render(&images, width))?;
        Ok(0)
    }
}

impl Verb for Images {
    const PATHS: &'static [&'static str] = &["image ls", "image list", "images"];
    const USAGE: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";
    const ARITY: Arity = Arity::AtMost(1);

    async fn run(self, app: &App) -> CmdResult {
        let mut filters = self.filter.clone();
        filters.extend(self.args.iter().map(|name| format!("reference={name}")));
        if self.tree {
            return self.show_tree(app, &filters).await;
        }
        let request = Request::get("/images/json")
            .flag("all", self.all)
            .query_opt("filters", &filter::parameter(&filters));
        let images = app.json(request).await?;
        let format =
            self.format.as_deref().or_else(|| app.config().images_format.as_deref().filter(|_| !self.quiet));
        let digests = self.digests || format.is_some_and(|f| f.contains(".Digest"));
        let rows: Vec<Row> = images
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|image| names(image, digests).into_iter().map(|n| row(image, &n, self.no_trunc)))
            .collect();
        let columns: &[&str] = if self.digests {
            &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
        } else {
            &["Repository", "Tag", "ID", "CreatedSince", "Size"]
        };
        let listing = Listing {
            type_name: "*formatter.imageContext",
            headers: &HEADERS,
            columns,
            quiet: self.quiet.then_some("ID"),
            raw: if self.quiet {
                "image_id: {{.ID}}\\n"
            } else if digests {
                "repository: {{ .Repository }}\\n{{if .Tag}}tag: {{.Tag}}\\n{{end}}digest: {{.Digest}}\\nimage_id: {{.ID}}\\ncreated_at: {{.CreatedAt}}\\nvirtual_size: {{.Size}}\\n"
            } else {
                "repository: {{.Repository}}\\n{{if .Tag}}tag: {{.Tag}}\\n{{end}}image_id: {{.ID}}\\ncreated_at: {{.CreatedAt}}\\nvirtual_size: {{.Size}}\\n"
            },
        };
        out::print(listing.render(format, &rows)?)?;
        Ok(0)
    }
}

/// One line of an image: repository, tag, digest.
type Name = (String, String, String);

const NONE: &str = "<none>";

/// The lines an image has: one per tag, and per digest where digests are wanted.
fn names(image: &Value, digests: bool) -> Vec<Name> {
    let list = |key: &str| -> Vec<&str> {
        let all = image[key].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.filter(|n| !n.starts_with("<none>")).collect()
    };
    let tags: Vec<(&str, &str)> = list("RepoTags").into_iter().filter_map(|t| t.rsplit_once(':')).collect();
    let known: Vec<(&str, &str)> =
        list("RepoDigests").into_iter().filter_map(|d| d.split_once('@')).collect();
    let mut all: Vec<Name> = Vec::new();
    for (repository, tag) in &tags {
        let own: Vec<_> = known.iter().filter(|d| d.0 == *repository).map(|d| d.1).collect();
        if digests && !own.is_empty() {
            all.extend(own.iter().map(|d| ((*repository).to_owned(), (*tag).to_owned(), (*d).to_owned())));
        } else {
            all.push(((*repository).to_owned(), (*tag).to_owned(), NONE.to_owned()));
        }
    }
    for (repository, digest) in &known {
        if !tags.iter().any(|t| t.0 == *repository) {
            all.push(((*repository).to_owned(), NONE.to_owned(), (*digest).to_owned()));
        }
    }
    if all.is_empty() {
        all.push((NONE.to_owned(), NONE.to_owned(), NONE.to_owned()));
    }
    all
}

/// The rows of an image: one per name.
pub fn rows(image: &Value) -> Vec<Row> {
    names(image, true).iter().map(|name| row(image, name, false)).collect()
}

#[expect(clippy::cast_precision_loss, reason = "sizes for people")]
fn row(image: &Value, (repository, tag, digest): &Name, no_trunc: bool) -> Row {
    let id = image["Id"].as_str().unwrap_or_default();
    let created = jiff::Timestamp::from_second(image["Created"].as_i64().unwrap_or(0)).unwrap_or_default();
    let count = |key: &str| match image[key].as_i64() {
        Some(n) if n >= 0 => n.to_string(),
        _ => "N/A".to_owned(),
    };
    let size = |key: &str| match image[key].as_i64() {
        Some(n) if n >= 0 => units::human_size_digits(n as f64, 3),
        _ => "N/A".to_owned(),
    };
    let exact = |key: &str| image[key].as_i64().map_or_else(String::new, |n| units::human_size(n as f64));
    Row::new([
        ("ID", if no_trunc { id.to_owned() } else { text::short_id(id).to_owned() }),
        ("Repository", repository.clone()),
        ("Tag", tag.clone()),
        ("Digest", digest.clone()),
        ("CreatedSince", if created.as_second() == 0 { "N/A".to_owned() } else { time::ago(created) }),
        ("CreatedAt", time::go_style(created)),
        ("Size", size("Size")),
        ("Containers", count("Containers")),
        ("SharedSize", size("SharedSize")),
        ("UniqueSize", "N/A".to_owned()),
        ("VirtualSize", exact("Size")),
    ])
    .with_labels(&image["Labels"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_image() {
        let image = serde_json::json!({
            "RepoTags": ["localhost:5000/a:1", "localhost:5000/a:2"], "RepoDigests": ["localhost:5000/a@sha256:x", "b@sha256:y"]
        });
        let shown = |digests| {
            names(&image, digests).into_iter().map(|(r, t, d)| format!("{r}|{t}|{d}")).collect::<Vec<_>>()
        };
        assert_eq!(
            shown(false),
            ["localhost:5000/a|1|<none>", "localhost:5000/a|2|<none>", "b|<none>|sha256:y"]
        );
        assert_eq!(shown(true)[0], "localhost:5000/a|1|sha256:x");
        assert_eq!(names(&serde_json::json!({"RepoTags": null}), false)[0].0, NONE);
    }
}
