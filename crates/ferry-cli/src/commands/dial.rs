//! `system dial-stdio`: the far end of an `ssh://` address.

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::app::App;
use crate::failure::CmdResult;
use crate::out::Stream;
use crate::session::pump;
use crate::verb::{Arity, Verb};

/// Proxy the stdio stream to the daemon connection. Should not be invoked manually.
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct DialStdio {
    #[arg(hide = true)]
    args: Vec<String>,
}

impl Verb for DialStdio {
    const PATHS: &'static [&'static str] = &["system dial-stdio"];
    const USAGE: &'static str = "";
    const ARITY: Arity = Arity::None;

    async fn run(self, app: &App) -> CmdResult {
        debug_assert!(self.args.is_empty());
        let (mut from, mut to) = tokio::io::split(app.client()?.dial().await?);
        let outgoing = async {
            let mut chunks = pump::read_stdin();
            while let Some(chunk) = chunks.recv().await {
                to.write_all(&chunk).await?;
                to.flush().await?;
            }
            to.shutdown().await
        };
        let incoming = async {
            let mut buffer = vec![0; 32 * 1024];
            loop {
                match from.read(&mut buffer).await? {
                    0 => return std::io::Result::Ok(()),
                    n => Stream::Stdout.write_async(&buffer[..n]).await?,
                }
            }
        };
        tokio::pin!(outgoing, incoming);
        tokio::select! {
            received = &mut incoming => received?,
            // The engine may still be answering when nothing more is asked.
            sent = &mut outgoing => {
                sent?;
                incoming.await?;
            }
        }
        Ok(0)
    }
}
