//! Images by every way that needs no registry.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use bollard::errors::Error;
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateImageOptionsBuilder, ImportImageOptions, ListImagesOptionsBuilder,
    PruneImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptions, RemoveImageOptionsBuilder,
    TagImageOptionsBuilder,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::json;

use crate::archives::read;
use crate::harness::{Ctx, IMAGE, LABEL, bytes, cases, refused};

cases!("images":
    commit_makes_an_image,
    history,
    tag_and_untag,
    imported_file_system,
    saved_image_loads_again,
    several_images_in_one_archive,
    list_filters,
    image_in_use,
    prune,
    what_is_no_archive,
    pull_from_nowhere,
);

async fn id_of(t: &Ctx, name: &str) -> Result<String> {
    t.docker.inspect_image(name).await?.id.context("an image without id")
}

/// A new image of a container that has made a file, under a name of its own.
async fn commit(t: &Ctx, what: &str, label: &str) -> Result<String> {
    let container = t.run(&format!("echo {what} > /made"), json!({})).await?;
    let repository = t.name("image");
    let options = CommitContainerOptionsBuilder::new()
        .container(&container)
        .repo(&repository)
        .tag("v1")
        .comment("made by a test")
        .author("somebody")
        .changes("ENV CHANGED=1")
        .build();
    let config: ContainerConfig =
        serde_json::from_value(json!({"Cmd": ["cat", "/made"], "Labels": {LABEL: label}}))?;
    let name = format!("{repository}:v1");
    t.remove_image_later(&name);
    let made = t.docker.commit_container(options, config).await?;
    assert_eq!(made.id, id_of(t, &name).await?);
    Ok(name)
}

async fn commit_makes_an_image(t: &Ctx) -> Result<()> {
    let name = commit(t, "committed", "commit").await?;
    let seen = serde_json::to_value(t.docker.inspect_image(&name).await?)?;
    assert_eq!(seen["RepoTags"], json!([name]));
    assert_eq!(seen["Author"], "somebody");
    assert_eq!(seen["Comment"], "made by a test");
    assert_eq!(seen["Os"], "linux");
    assert_eq!(seen["Config"]["Cmd"], json!(["cat", "/made"]));
    assert_eq!(seen["Config"]["Labels"][LABEL], "commit");
    let environment = seen["Config"]["Env"].as_array().context("no environment")?;
    assert!(environment.contains(&json!("CHANGED=1")), "{environment:?}");
    let id = t.create("", json!({"Image": name, "Cmd": null})).await?;
    t.docker.start_container(&id, None).await?;
    assert_eq!(t.wait(&id).await?, 0);
    assert_eq!(t.logs(&id).await?.out, "committed\n");
    Ok(())
}

async fn history(t: &Ctx) -> Result<()> {
    let name = commit(t, "history", "history").await?;
    let entries = t.docker.image_history(&name).await?;
    assert_eq!(entries.len(), t.docker.image_history(IMAGE).await?.len() + 1);
    assert_eq!(entries[0].id, id_of(t, &name).await?);
    assert_eq!((&entries[0].tags, &*entries[0].comment), (&vec![name], "made by a test"));
    assert!(entries[0].size > 0);
    Ok(())
}

async fn tag_and_untag(t: &Ctx) -> Result<()> {
    let repository = t.name("tag");
    let (one, two) = (format!("{repository}:one"), format!("{repository}:two"));
    t.remove_image_later(&one);
    for tag in ["one", "two"] {
        let options = TagImageOptionsBuilder::new().repo(&repository).tag(tag).build();
        t.docker.tag_image(IMAGE, Some(options)).await?;
    }
    assert_eq!(id_of(t, &one).await?, id_of(t, IMAGE).await?);
    let removed = t.docker.remove_image(&two, None::<RemoveImageOptions>, None).await?;
    assert_eq!(removed.iter().map(|r| r.untagged.as_deref()).collect::<Vec<_>>(), [Some(&*two)]);
    refused(t.docker.inspect_image(&two).await, 404, "No such image");
    id_of(t, &one).await?;
    Ok(())
}

async fn import(
    t: &Ctx,
    repository: &str,
    archive: Vec<u8>,
) -> Result<Vec<bollard::models::CreateImageInfo>, Error> {
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(repository)
        .tag("v2")
        .message("brought in")
        .changes(vec!["CMD [\"echo\",\"imported\"]".to_owned()])
        .build();
    let body = bollard::body_full(archive.into());
    t.docker.create_image(Some(options), Some(body), None).try_collect().await
}

async fn imported_file_system(t: &Ctx) -> Result<()> {
    let container = t.create("true", json!({})).await?;
    let root = bytes(t.docker.export_container(&container)).await?;
    let repository = t.name("import");
    let name = format!("{repository}:v2");
    t.remove_image_later(&name);
    refused(import(t, &repository, root[..100_000].to_vec()).await, 500, "unexpected EOF");
    refused(t.docker.inspect_image(&name).await, 404, "No such image");

    let messages = import(t, &repository, root).await?;
    let last = messages.last().and_then(|m| m.status.clone());
    assert_eq!(last, Some(id_of(t, &name).await?));
    let id = t.create("", json!({"Image": name, "Cmd": null})).await?;
    t.docker.start_container(&id, None).await?;
    assert_eq!(t.wait(&id).await?, 0);
    assert_eq!(t.logs(&id).await?.out, "imported\n");
    Ok(())
}

async fn saved_image_loads_again(t: &Ctx) -> Result<()> {
    let name = commit(t, "saved", "save").await?;
    let id = id_of(t, &name).await?;
    let archive = bytes(t.docker.export_image(&name)).await?;
    let files = read(&archive)?;
    assert!(files["manifest.json"].contains(&format!("\"{name}\"")), "{}", files["manifest.json"]);
    assert!(files.contains_key("index.json") && files.contains_key("oci-layout"));

    t.docker.remove_image(&name, Some(RemoveImageOptionsBuilder::new().force(true).build()), None).await?;
    refused(t.docker.inspect_image(&id).await, 404, "No such image");
    let body = bollard::body_full(archive.into());
    let messages: Vec<_> =
        t.docker.import_image(ImportImageOptions::default(), body, None).try_collect().await?;
    let text: String = messages.into_iter().filter_map(|m| m.stream).collect();
    assert!(text.contains(&format!("Loaded image: {name}")), "{text}");
    assert_eq!(id_of(t, &name).await?, id);
    Ok(())
}

async fn several_images_in_one_archive(t: &Ctx) -> Result<()> {
    let first = commit(t, "first", "several").await?;
    let second = commit(t, "second", "several").await?;
    let archive = bytes(t.docker.export_images(&[&first, &second])).await?;
    let manifest = read(&archive)?.remove("manifest.json").unwrap_or_default();
    assert!(manifest.contains(&first) && manifest.contains(&second), "{manifest}");
    Ok(())
}

async fn list(t: &Ctx, filters: &[(&str, &str)]) -> Result<Vec<String>> {
    let filters: HashMap<&str, Vec<&str>> = filters.iter().map(|(k, v)| (*k, vec![*v])).collect();
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    Ok(t.docker.list_images(Some(options)).await?.into_iter().map(|image| image.id).collect())
}

async fn list_filters(t: &Ctx) -> Result<()> {
    let value = t.name("list");
    let name = commit(t, "listed", &value).await?;
    let id = id_of(t, &name).await?;
    assert_eq!(list(t, &[("label", &format!("{LABEL}={value}"))]).await?, [id.clone()]);
    assert_eq!(list(t, &[("reference", &name)]).await?, [id.clone()]);
    assert_eq!(list(t, &[("reference", &name), ("dangling", "true")]).await?, [""; 0]);
    assert_eq!(list(t, &[("reference", &name), ("since", IMAGE)]).await?, [id]);
    assert_eq!(list(t, &[("reference", &name), ("before", IMAGE)]).await?, [""; 0]);
    Ok(())
}

async fn image_in_use(t: &Ctx) -> Result<()> {
    let name = commit(t, "used", "use").await?;
    let id = id_of(t, &name).await?;
    let container = t.start("exec sleep 60", json!({"Image": name})).await?;
    let remove = async || t.docker.remove_image(&id, None::<RemoveImageOptions>, None).await;
    refused(remove().await, 409, "unable to delete");
    let force = RemoveContainerOptionsBuilder::new().force(true).build();
    t.docker.remove_container(&container, Some(force)).await?;
    assert!(remove().await?.iter().any(|removed| removed.deleted.as_ref() == Some(&id)));
    Ok(())
}

async fn prune(t: &Ctx) -> Result<()> {
    let value = t.name("prune");
    let container = t.run("echo pruned > /made", json!({})).await?;
    let options = CommitContainerOptionsBuilder::new().container(&container).build();
    let config: ContainerConfig = serde_json::from_value(json!({"Labels": {LABEL: value}}))?;
    let dangling = t.docker.commit_container(options, config).await?.id;
    let kept = commit(t, "kept", &value).await?;
    let label = format!("{LABEL}={value}");
    let filters = HashMap::from([("dangling", vec!["true"]), ("label", vec![&*label])]);
    let options = PruneImagesOptionsBuilder::new().filters(&filters).build();
    let pruned = t.docker.prune_images(Some(options)).await?;
    let deleted: Vec<_> =
        pruned.images_deleted.unwrap_or_default().into_iter().filter_map(|d| d.deleted).collect();
    assert!(deleted.contains(&dangling), "{deleted:?}");
    assert!(pruned.space_reclaimed > Some(0));
    refused(t.docker.inspect_image(&dangling).await, 404, "No such image");
    id_of(t, &kept).await?;
    Ok(())
}

async fn what_is_no_archive(t: &Ctx) -> Result<()> {
    let body = bollard::body_full("no archive".into());
    let messages: Vec<_> = t.docker.import_image(ImportImageOptions::default(), body, None).collect().await;
    // The answer has begun when the archive turns out to be none: the error is in the stream.
    match messages.last() {
        Some(Err(Error::DockerStreamError { error })) => assert!(error.contains("unexpected EOF"), "{error}"),
        other => panic!("no error in the stream: {other:?}"),
    }
    Ok(())
}

async fn pull_from_nowhere(t: &Ctx) -> Result<()> {
    let options = CreateImageOptionsBuilder::new().from_image("127.0.0.1:1/absent").tag("latest").build();
    let messages: Result<Vec<_>, Error> =
        t.docker.create_image(Some(options), None, None).try_collect().await;
    refused(messages, 500, "connection refused");
    Ok(())
}
