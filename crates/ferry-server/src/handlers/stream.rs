//! What takes longer than a response: logs, events, stats, archives, waiting.

use bytes::Bytes;
use ferry_api::auth::base64;
use ferry_api::container::{ContainerWaitResponse, WaitError};
use ferry_api::convert::{request::knows, response};
use ferry_engine::api::{EventOptions, LogOptions, PathStat, WaitCondition};
use futures_util::StreamExt as _;
use http::header::HeaderValue;
use http::{Response, StatusCode};

use crate::body::Body;
use crate::error::{HttpError, Result};
use crate::reply::{
    self, JSON, Reply, TAR, content_type, empty, json, json_lines, json_sequence, output_type,
};
use crate::request::Call;

pub(crate) async fn logs(call: Call, id: &str) -> Reply {
    let q = &call.query;
    let (stdout, stderr) = (q.bool("stdout"), q.bool("stderr"));
    if !stdout && !stderr {
        return Err(HttpError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let json = wants_json_log(&call)?;
    let options = LogOptions {
        follow: q.bool("follow"),
        stdout,
        stderr,
        since: q.owned("since").filter(|s| s != "0"),
        until: q.owned("until").filter(|s| s != "0"),
        timestamps: q.bool("timestamps"),
        details: q.bool("details"),
        // As Docker: what is no number means all.
        tail: q.get("tail").parse().ok(),
        json: json.is_some(),
    };
    let log = call.engine.container_logs(id, options).await?;
    let body = log.body.take_until(call.stop.clone().cancelled_owned());
    let kind = json.unwrap_or_else(|| output_type(log.multiplexed, call.version));
    Ok(reply::stream(kind, body))
}

/// Whether a log is wanted as JSON lines, as `format` or an `Accept` header can say since API 1.54, and the content type.
fn wants_json_log(call: &Call) -> Result<Option<&'static str>> {
    const KINDS: [&str; 2] = ["application/jsonl", "application/x-ndjson"];
    if !knows(call.version, 54) {
        return Ok(None);
    }
    let kind = accepted(call, &KINDS);
    match call.query.get("format") {
        "" => Ok(kind),
        "json" => Ok(Some(kind.unwrap_or(KINDS[1]))),
        _ => Err(HttpError::invalid("unsupported log format")),
    }
}

/// The first of the content types a client accepts that is offered.
fn accepted(call: &Call, offered: &[&'static str]) -> Option<&'static str> {
    let accept = call.head.headers.get(http::header::ACCEPT).and_then(|a| a.to_str().ok())?;
    let mut wanted = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    wanted.find_map(|wanted| offered.iter().find(|kind| **kind == wanted)).copied()
}

pub(crate) async fn events(call: Call) -> Reply {
    let q = &call.query;
    if let (Ok(since), Ok(until)) = (q.get("since").parse::<f64>(), q.get("until").parse::<f64>())
        && since > until
    {
        let (since, until) = (q.get("since"), q.get("until"));
        return Err(HttpError::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    let options = EventOptions { since: q.owned("since"), until: q.owned("until"), filters: q.filters()? };
    let events = call.engine.events(options)?.take_until(call.stop.clone().cancelled_owned());
    let known = events.filter_map(move |event| {
        std::future::ready(event.map(|event| response::event(event, call.version)).transpose())
    });
    if !knows(call.version, 52) {
        return Ok(json_lines(known, |_| None));
    }
    let kind = accepted(&call, &["application/jsonl", "application/x-ndjson", "application/json-seq"]);
    let kind = kind.unwrap_or("application/jsonl");
    let mut response = match kind {
        "application/json-seq" => json_sequence(known),
        _ => json_lines(known, |_| None),
    };
    content_type(&mut response, kind);
    Ok(response)
}

pub(crate) async fn stats(call: Call, id: &str) -> Reply {
    if !call.query.bool_or("stream", true) {
        let one_shot = knows(call.version, 41) && call.query.bool("one-shot");
        let mut sample = call.engine.container_stats_once(id, one_shot).await?;
        response::stats(&mut sample, call.version);
        return json(&sample);
    }
    let version = call.version;
    let samples = call.engine.container_stats_stream(id).await?.map(move |sample| {
        sample.map(|mut sample| {
            response::stats(&mut sample, version);
            sample
        })
    });
    Ok(json_lines(samples.take_until(call.stop.clone().cancelled_owned()), |_| None))
}

pub(crate) async fn export(call: &Call, id: &str) -> Reply {
    Ok(reply::stream("application/octet-stream", call.engine.container_export(id).await?))
}

/// Answers with the header at once: clients start the container when they have it, so that they
/// cannot miss its end.
pub(crate) async fn wait(call: Call, id: &str) -> Reply {
    let condition = match call.query.get("condition") {
        _ if !knows(call.version, 30) => WaitCondition::NotRunning,
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(HttpError::invalid(format!("invalid condition: {other:?}"))),
    };
    let ended = call.engine.container_wait(id, condition)?;
    let line = |ended: ferry_engine::Result<ContainerWaitResponse>| {
        let answer = ended.unwrap_or_else(|e| ContainerWaitResponse {
            error: Some(WaitError { message: e.to_string() }),
            ..ContainerWaitResponse::default()
        });
        ferry_api::json::to_vec(&answer).unwrap_or_default()
    };
    let mut response = if knows(call.version, 30) {
        let body = async move { Ok(Bytes::from(line(ended.await))) };
        let stop = call.stop.clone().cancelled_owned();
        Response::new(Body::stream(futures_util::stream::once(body).take_until(stop)))
    } else {
        Response::new(Body::full(line(ended.await)))
    };
    content_type(&mut response, JSON);
    Ok(response)
}

fn required_path(call: &Call, id: &str) -> Result<String> {
    if id.is_empty() {
        return Err(HttpError::invalid("bad parameter: namecannot be empty"));
    }
    call.query.owned("path").ok_or_else(|| HttpError::invalid("bad parameter: pathcannot be empty"))
}

fn stat_header(mut response: Response<Body>, stat: &PathStat) -> Reply {
    let text = ferry_api::json::to_vec(stat).map_err(|e| HttpError::internal(e.to_string()))?;
    let value = HeaderValue::try_from(base64(text.trim_ascii_end()));
    let value = value.map_err(|e| HttpError::internal(e.to_string()))?;
    response.headers_mut().insert("x-docker-container-path-stat", value);
    Ok(response)
}

pub(crate) async fn archive_stat(call: &Call, id: &str) -> Reply {
    let path = required_path(call, id)?;
    let stat = call.engine.container_archive_stat(id, &path).await?;
    stat_header(empty(StatusCode::OK)?, &stat)
}

pub(crate) async fn archive_get(call: &Call, id: &str) -> Reply {
    let path = required_path(call, id)?;
    let (stat, tar) = call.engine.container_archive_get(id, &path).await?;
    stat_header(reply::stream(TAR, tar), &stat)
}

pub(crate) async fn archive_put(call: Call, id: &str) -> Reply {
    let path = required_path(&call, id)?;
    let keep_kind = call.query.bool("noOverwriteDirNonDir");
    let copy_ids = call.query.bool("copyUIDGID");
    let engine = call.engine.clone();
    engine.container_archive_put(id, &path, keep_kind, copy_ids, call.reader()).await?;
    empty(StatusCode::OK)
}
