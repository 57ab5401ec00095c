//! `logs`: what workers said while they worked on a job; of jobs that are over, too.

use std::io::Write;
use std::time::Duration;

use crate::cli::LogsArgs;
use crate::connect;
use crate::context::Context;
use crate::exit::Exit;
use crate::words::time;

const POLL: Duration = Duration::from_secs(1);

/// Prints the log, and with `--follow` what comes until the job is over.
///
/// # Errors
/// There is no such job; those of the store and of standard output.
pub async fn run(context: Context, args: LogsArgs) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift logs").await?;
    let interrupted = connect::interrupted();
    tokio::pin!(interrupted);
    let mut after = 0;
    loop {
        // Asked before the lines are read, so that the last lines of a job that ends meanwhile are not missed.
        let over = store.job(args.job).await?.state.is_final();
        loop {
            let lines = store.logs(args.job, args.item, after).await?;
            let Some(last) = lines.last() else { break };
            after = last.id;
            let mut out = std::io::stdout().lock();
            for line in &lines {
                for text in line.text.lines() {
                    writeln!(
                        out,
                        "{}  shard {} attempt {}  {text}",
                        time(line.at_unix_ms),
                        line.shard,
                        line.attempt
                    )?;
                }
            }
        }
        if over || !args.follow {
            return Ok(Exit::Ok);
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = &mut interrupted => {
                context.ui.note(&format!("job {} continues; `nightshift logs -f {}` follows it again", args.job, args.job));
                return Ok(Exit::Interrupted);
            }
        }
    }
}
