//! The worker's side of the decoding process: spawn, feed, bound, and turn whatever happens into a picture or a failure.

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use nightshift_engine::RgbImage;
use nightshift_jobs::{Fit, Size};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::decode_child::{Answer, Facts, LINE_BYTES_MAX, Order, VERB};
use crate::config::Config;
use crate::failure::{Failure, ShardError, Stop};

/// How often a decoder that could not even be started is tried: memory or process limits of the machine may pass.
const START_TRIES: u32 = 5;

/// Decodes and fits one image in a process of its own.
///
/// # Errors
/// [`ShardError::Machine`]: the decoder cannot be started. The item's own failure has the decoder's code, `decoder_died` when it was
/// killed or crashed, `decoder_timeout` when it took too long.
pub(crate) async fn decode(
    config: &Config,
    bytes: Bytes,
    panel: Size,
    fit: Fit,
) -> Result<(RgbImage, Facts), Stop> {
    let order = Order {
        width: panel.width,
        height: panel.height,
        fit,
        max_pixels: config.input.max_pixels,
        memory_bytes: config.input.memory_bytes,
        cpu_seconds: config.input.cpu_seconds,
    };
    let child = start(config).await?;
    let answered = tokio::time::timeout(config.input.wall, converse(child, &order, bytes)).await;
    let failure = match answered {
        Ok(Ok(Answered::Panel(panel, facts))) => return Ok((panel, facts)),
        Ok(Ok(Answered::Failed { code, message })) => Failure::bad_input(code, message),
        Ok(Err(error)) => {
            Failure::bad_input("decoder_died", format!("the decoder died on this image: {error}"))
        }
        // Dropping the child killed it.
        Err(_) => {
            let seconds = config.input.wall.as_secs_f64();
            let message = format!("decoding took more than {seconds:.1} s");
            Failure::bad_input("decoder_timeout", message)
        }
    };
    Err(failure.into())
}

async fn start(config: &Config) -> Result<Child, ShardError> {
    let mut tried = 0;
    loop {
        let child = Command::new(&config.decoder)
            .arg(VERB)
            // The decoder needs no setting and may know no credential.
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        tried += 1;
        match child {
            Ok(child) => return Ok(child),
            Err(_) if tried < START_TRIES => {
                tokio::time::sleep(Duration::from_millis(50 << tried)).await
            }
            Err(error) => {
                let program = config.decoder.display();
                return Err(ShardError::Machine(format!(
                    "this machine cannot start {program} {VERB}: {error}"
                )));
            }
        }
    }
}

enum Answered {
    Panel(RgbImage, Facts),
    Failed { code: String, message: String },
}

async fn converse(mut child: Child, order: &Order, bytes: Bytes) -> std::io::Result<Answered> {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut line = serde_json::to_vec(order)?;
    line.push(b'\n');
    let feed = async move {
        // A decoder that answers before it has read everything closes the pipe: not an error, the answer counts.
        if stdin.write_all(&line).await.is_ok() {
            drop(stdin.write_all(&bytes).await);
        }
    };
    let (answer, ()) = tokio::join!(listen(stdout, order), feed);
    match answer {
        Ok(answered) => Ok(answered),
        Err(error) => {
            let status = child.wait().await?;
            Err(std::io::Error::other(format!("{status} ({error})")))
        }
    }
}

async fn listen(stdout: tokio::process::ChildStdout, order: &Order) -> std::io::Result<Answered> {
    let mut stdout = BufReader::new(stdout);
    let mut line = String::new();
    (&mut stdout).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    if line.is_empty() {
        return Err(std::io::Error::other("no answer"));
    }
    match serde_json::from_str(&line)? {
        Answer::Failed { code, message } => Ok(Answered::Failed { code, message }),
        Answer::Decoded(facts) => {
            let mut panel = RgbImage::new(order.width, order.height);
            stdout.read_exact(&mut panel.data).await?;
            Ok(Answered::Panel(panel, facts))
        }
    }
}
