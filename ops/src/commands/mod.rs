//! One function per verb. [`dispatch`] picks it, with the configuration and, where one is needed, a runtime.

pub mod admin;
pub mod bench;
pub mod completion;
pub mod config;
pub mod doctor;
pub mod eval;
pub mod generate;
pub mod job;
pub mod list;
pub mod logs;
pub mod model;
pub mod nano;
pub mod plan;
pub mod predict;
pub mod queue;
pub mod run;
pub mod schedule;
pub mod serve;
pub mod sheet;
pub mod submit;
pub mod up;
pub mod validate;
pub mod wait;

use std::future::Future;
use std::process::ExitCode;

use crate::cli::{Cli, Global, Verb};
use crate::config::{Config, Surroundings};
use crate::context::Context;
use crate::exit::Exit;
use crate::ui::Ui;

/// Does what was typed.
///
/// # Errors
/// Whatever the verb could not do; [`crate::failure`] knows the exit code.
pub fn dispatch(ui: Ui, cli: Cli) -> anyhow::Result<Exit> {
    let Cli { global, verb } = cli;
    // These need no configuration, so a broken file does not keep them from working.
    match &verb {
        Verb::Completion { shell } => return completion::run(*shell),
        Verb::Validate { files, runnable } => return validate::run(ui, files, *runnable),
        Verb::Generate(args) => return generate::run(ui, args),
        Verb::Model(verb) => return model::run(ui, verb),
        Verb::Bench(verb) => return bench::run(ui, verb),
        Verb::Nano(verb) => return nano::run(ui, verb),
        Verb::Eval(verb) => return eval::run(ui, verb),
        _ => {}
    }
    let config =
        Config::load(&flags(&global, &verb), &Surroundings::of_process(global.config.clone()))?;
    let context = Context { ui, config, verbose: global.verbose };
    match verb {
        Verb::Config(verb) => config::run(&context.config, &verb),
        Verb::Scheduler => block_on(serve::scheduler(context)),
        Verb::Worker { .. } => block_on(serve::worker(context)),
        Verb::Run(args) => block_on(run::run(context, args)),
        Verb::Up { s3_port, .. } => block_on(up::run(context, s3_port)),
        Verb::Admin(verb) => block_on(admin::run(context, verb)),
        Verb::Migrate => block_on(serve::migrate(context)),
        Verb::Plan(args) => block_on(plan::run(context, args)),
        Verb::Submit(args) => block_on(submit::run(context, args)),
        Verb::Ps { all, output } => block_on(list::ps(context, all, output.output)),
        Verb::Queue(args) => block_on(queue::run(context, args)),
        Verb::Schedule(verb) => block_on(schedule::run(context, verb)),
        Verb::Items(args) => block_on(list::items(context, args)),
        Verb::Get { job, output } => block_on(job::get(context, job, output.output)),
        Verb::Describe { job } => block_on(job::describe(context, job)),
        Verb::Cancel { job } => block_on(job::cancel(context, job)),
        Verb::Pause { job } => block_on(job::pause(context, job)),
        Verb::Resume { job } => block_on(job::resume(context, job)),
        Verb::Retry { job, item, error_code } => {
            block_on(job::retry(context, job, item, error_code))
        }
        Verb::Logs(args) => block_on(logs::run(context, args)),
        Verb::Wait { job, timeout } => block_on(wait::run(context, job, timeout)),
        Verb::Doctor { storage, output } => block_on(doctor::run(context, storage, output.output)),
        Verb::Sheet { job, out, columns, cell, limit } => {
            block_on(sheet::run(context, job, &out, sheet::Shape { columns, cell, limit }))
        }
        Verb::Completion { .. }
        | Verb::Validate { .. }
        | Verb::Generate(_)
        | Verb::Model(_)
        | Verb::Bench(_)
        | Verb::Nano(_)
        | Verb::Eval(_)
        | Verb::DecodeImage { .. } => {
            unreachable!("handled above, or before the arguments were parsed")
        }
    }
}

/// The limited child of a worker.
#[must_use]
pub fn decode_image() -> ExitCode {
    nightshift_worker::decode_child::main()
}

/// The flags that are configuration.
fn flags(global: &Global, verb: &Verb) -> Vec<(&'static str, &'static str, String)> {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let mut flags = Vec::new();
    let mut set =
        |key, flag, value: Option<String>| flags.extend(value.map(|value| (key, flag, value)));
    set("database.url", "--database-url", global.database_url.clone());
    set("data", "--data", global.data.as_ref().map(path));
    set("models_dir", "--models-dir", global.models_dir.as_ref().map(path));
    let (slots, threads) = match verb {
        Verb::Worker { slots, threads, name } => {
            set("worker.name", "--name", name.clone());
            (slots, threads)
        }
        Verb::Up { slots, threads, .. } | Verb::Run(crate::cli::RunArgs { slots, threads, .. }) => {
            (slots, threads)
        }
        _ => return flags,
    };
    set("worker.slots", "--slots", slots.map(|n| n.to_string()));
    set("worker.threads", "--threads", threads.map(|n| n.to_string()));
    flags
}

fn block_on(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    // A task that is stuck in a file system call must not keep the program from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    result
}
