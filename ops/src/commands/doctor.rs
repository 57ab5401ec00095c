//! `doctor`: looks at everything a system needs, and says what is wrong and what to do.

use nightshift_objects::{ConditionalPut, S3Uri};
use serde_json::{Value, json};

use crate::config::redact_url;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Format;
use crate::output::{column, rows};
use crate::{connect, failure};

/// One thing looked at.
struct Finding {
    what: &'static str,
    status: Status,
    detail: String,
    help: Option<String>,
    exit: Exit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    /// Nothing was asked for.
    NotTried,
    Warning,
    Failed,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self::new(what, Status::Ok, detail)
    }

    fn new(what: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { what, status, detail: detail.into(), help: None, exit: Exit::Ok }
    }

    fn failed(what: &'static str, error: &anyhow::Error) -> Self {
        let (exit, help) = failure::classify(error);
        Self { help, exit, ..Self::new(what, Status::Failed, format!("{error:#}")) }
    }

    fn row(&self) -> Value {
        let status = match self.status {
            Status::Ok => "ok",
            Status::NotTried => "not tried",
            Status::Warning => "warning",
            Status::Failed => "FAIL",
        };
        json!({"check": self.what, "status": status, "detail": self.detail, "help": self.help})
    }
}

/// Looks at the database, the object store and the models. The exit code is that of the first failure.
///
/// # Errors
/// Standard output cannot be written.
pub async fn run(context: Context, at: Option<String>, format: Format) -> anyhow::Result<Exit> {
    let (mut findings, live) = database(&context).await;
    findings.extend(storage(&context, at.as_deref()).await);
    findings.push(models(&context, live));
    let list: Vec<Value> = findings.iter().map(Finding::row).collect();
    let columns =
        [column("CHECK", "check"), column("STATUS", "status"), column("DETAIL", "detail")];
    rows(&mut std::io::stdout().lock(), format, &columns, &list)?;
    for finding in &findings {
        if let Some(help) = finding.help.as_deref().filter(|_| finding.status != Status::Ok) {
            context.ui.note(&format!("help: {}: {help}", finding.what));
        }
    }
    let first = findings.iter().find(|finding| finding.status == Status::Failed);
    Ok(first.map_or(Exit::Ok, |finding| finding.exit))
}

/// What there is to say of the database, and how many workers are live.
async fn database(context: &Context) -> (Vec<Finding>, usize) {
    let store = match connect::store(&context.config, "nightshift doctor").await {
        Ok(store) => store,
        Err(error) => return (vec![Finding::failed("database", &error)], 0),
    };
    let mut findings = Vec::new();
    let mut live = 0;
    match store.check_versions().await {
        Ok(versions) => {
            let url = redact_url(context.config.get("database.url").unwrap_or_default());
            let detail =
                format!("{url}, schema {}, protocol {}", versions.schema, versions.protocol);
            findings.push(Finding::ok("database", detail));
        }
        Err(error) => findings.push(Finding::failed("database", &error.into())),
    }
    findings.push(match store.workers().await {
        Ok(workers) => {
            live = workers.iter().filter(|worker| worker.state != "gone").count();
            let status = if live == 0 { Status::Warning } else { Status::Ok };
            let help = (live == 0).then(|| "start one with `nightshift worker`".to_owned());
            Finding { help, ..Finding::new("workers", status, format!("{live} live")) }
        }
        // Only tenants may look at workers; a worker's own login is right to be refused.
        Err(nightshift_store::Error::Denied { .. }) => {
            Finding::ok("workers", "not visible to this login")
        }
        Err(error) => Finding::failed("workers", &error.into()),
    });
    (findings, live)
}

async fn storage(context: &Context, at: Option<&str>) -> Vec<Finding> {
    let endpoint = context.config.get("storage.endpoint").unwrap_or("AWS").to_owned();
    let Some(at) = at else {
        let help = Some("--storage s3://bucket/prefix/ writes there and reads back".to_owned());
        return vec![Finding { help, ..Finding::new("storage", Status::NotTried, endpoint) }];
    };
    let probe = async {
        let scratch: S3Uri = at.parse().map_err(nightshift_objects::Error::from)?;
        let objects = connect::objects(&context.config).await?;
        anyhow::Ok(objects.probe(&scratch).await?)
    };
    let found = match probe.await {
        Ok(found) => found,
        Err(error) => return vec![Finding::failed("storage", &error)],
    };
    let mut findings =
        vec![Finding::ok("storage", format!("{endpoint}: wrote and read back below {at}"))];
    let conditions = match found.conditional_put {
        ConditionalPut::Honoured => {
            Finding::ok("conditions", "a second writer of a key is refused")
        }
        ConditionalPut::Ignored | ConditionalPut::Refused => Finding {
            help: Some("jobs are still exact: the database keeps writers apart".to_owned()),
            ..Finding::new(
                "conditions",
                Status::Warning,
                "this endpoint does not refuse a second writer of a key",
            )
        },
    };
    findings.push(conditions);
    findings.push(Finding::ok("checksums", format!("{:?}", found.checksum_mode)));
    findings
        .extend(found.notes.into_iter().map(|note| Finding::new("storage", Status::Warning, note)));
    findings
}

fn models(context: &Context, live_workers: usize) -> Finding {
    let dir = context.config.models_dir();
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("config.json").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    if names.is_empty() && live_workers > 0 {
        let detail = format!("none in {}; the workers have theirs", dir.display());
        return Finding::ok("models", detail);
    }
    if names.is_empty() {
        return Finding {
            help: Some(format!(
                "a worker needs one; `nightshift model random {}` makes a small one",
                dir.join("tiny").display()
            )),
            ..Finding::new("models", Status::Warning, format!("{} holds no model", dir.display()))
        };
    }
    Finding::ok("models", format!("{}: {}", dir.display(), names.join(", ")))
}
