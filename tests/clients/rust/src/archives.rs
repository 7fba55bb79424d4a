//! Files copied into containers and out of them, and whole containers exported.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::Result;
use bollard::query_parameters::{
    ContainerArchiveInfoOptionsBuilder, DownloadFromContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::stream;
use serde_json::json;

use crate::harness::{Ctx, bytes, cases, refused};

cases!("archives":
    out_of_a_stopped_container,
    into_a_new_container,
    into_a_running_container_as_a_stream,
    information,
    what_is_not_there,
    export,
);

/// The names in an archive with the contents of regular files; a link shows where it leads.
pub fn read(archive: &[u8]) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let text = match entry.link_name_bytes() {
            Some(target) => format!("-> {}", String::from_utf8_lossy(&target)),
            None => String::from_utf8_lossy(&content).into_owned(),
        };
        files.insert(name, text);
    }
    Ok(files)
}

fn tar(name: &str, content: &str, mode: u32, owner: u64) -> Result<bytes::Bytes> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, name, content.as_bytes())?;
    Ok(builder.into_inner()?.into())
}

async fn download(t: &Ctx, id: &str, path: &str) -> Result<Vec<u8>, bollard::errors::Error> {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    bytes(t.docker.download_from_container(id, Some(options))).await
}

async fn out_of_a_stopped_container(t: &Ctx) -> Result<()> {
    let id =
        t.run("mkdir -p /d/e; echo one > /d/one; echo two > /d/e/two; ln -s one /d/link", json!({})).await?;
    let expected = [("d/", ""), ("d/one", "one\n"), ("d/e/", ""), ("d/e/two", "two\n"), ("d/link", "-> one")]
        .map(|(name, content)| (name.to_owned(), content.to_owned()));
    assert_eq!(read(&download(t, &id, "/d").await?)?, BTreeMap::from(expected));
    let one = read(&download(t, &id, "/d/e/two").await?)?;
    assert_eq!(one, BTreeMap::from([("two".to_owned(), "two\n".to_owned())]));
    Ok(())
}

async fn into_a_new_container(t: &Ctx) -> Result<()> {
    let id = t.create("cat /etc/given; stat -c '%a %u' /etc/given", json!({})).await?;
    let options = UploadToContainerOptionsBuilder::new().path("/etc").build();
    let archive = tar("given", "by the client\n", 0o640, 33)?;
    t.docker.upload_to_container(&id, Some(options), bollard::body_full(archive)).await?;
    t.docker.start_container(&id, None).await?;
    assert_eq!(t.wait(&id).await?, 0);
    assert_eq!(t.logs(&id).await?.out, "by the client\n640 33\n");
    Ok(())
}

async fn into_a_running_container_as_a_stream(t: &Ctx) -> Result<()> {
    let id = t.start("while ! test -e /tmp/late; do sleep 0.1; done; cat /tmp/late", json!({})).await?;
    let archive = tar("late", "arrived\n", 0o644, 0)?;
    let parts: Vec<_> = archive.chunks(100).map(|part| Ok(bytes::Bytes::copy_from_slice(part))).collect();
    let options = UploadToContainerOptionsBuilder::new().path("/tmp").build();
    let body = bollard::body_try_stream(stream::iter(parts));
    t.docker.upload_to_container(&id, Some(options), body).await?;
    assert_eq!(t.wait(&id).await?, 0);
    assert_eq!(t.logs(&id).await?.out, "arrived\n");
    Ok(())
}

async fn information(t: &Ctx) -> Result<()> {
    let id = t.run("echo 12345 > /file; ln -s file /link", json!({})).await?;
    let options = |path: &str| Some(ContainerArchiveInfoOptionsBuilder::new().path(path).build());
    let file = t.docker.get_container_archive_info(&id, options("/file")).await?;
    assert_eq!((&*file.name, file.size, file.file_mode & 0o777), ("file", 6, 0o644));
    let link = t.docker.get_container_archive_info(&id, options("/link")).await?;
    assert_eq!((&*link.name, &*link.link_target), ("link", "/file"));
    Ok(())
}

async fn what_is_not_there(t: &Ctx) -> Result<()> {
    let id = t.create("true", json!({})).await?;
    refused(download(t, &id, "/nothing").await, 404, "Could not find the file /nothing in container");
    let upload = async |path: &str| -> Result<(), bollard::errors::Error> {
        let options = UploadToContainerOptionsBuilder::new().path(path).build();
        let archive = tar("x", "x", 0o644, 0).unwrap_or_default();
        t.docker.upload_to_container(&id, Some(options), bollard::body_full(archive)).await
    };
    refused(upload("/nothing").await, 404, "Could not find the file /nothing in container");
    refused(upload("/etc/passwd").await, 400, "not a directory");
    Ok(())
}

async fn export(t: &Ctx) -> Result<()> {
    let id = t.run("echo made > /made; rm /etc/group", json!({})).await?;
    let files = read(&bytes(t.docker.export_container(&id)).await?)?;
    assert_eq!(files.get("made").map(String::as_str), Some("made\n"));
    assert!(files.contains_key("bin/busybox") && !files.contains_key("etc/group"));
    Ok(())
}
