//! Errors at the boundary: which exit code they are, and how they are told.

use crate::exit::{Exit, Failure};
use crate::ui::Ui;

/// Tells an error on standard error and returns its exit code.
pub fn report(ui: &Ui, error: &anyhow::Error) -> Exit {
    if is_broken_pipe(error) {
        // The reader of our output has left, as `| head` does: nothing to say.
        return Exit::Ok;
    }
    let (exit, help) = classify(error);
    let message = match error.downcast_ref::<Failure>() {
        Some(failure) => failure.message.clone(),
        None => format!("{error:#}"),
    };
    ui.error(&message, help.as_deref());
    exit
}

/// The exit code of an error, and what its reader can do.
#[must_use]
pub fn classify(error: &anyhow::Error) -> (Exit, Option<String>) {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return (failure.exit, failure.help.clone());
        }
        if let Some(error) = cause.downcast_ref::<nightshift_store::Error>() {
            return store(error);
        }
        if let Some(error) = cause.downcast_ref::<nightshift_objects::Error>() {
            return objects(error);
        }
        if let Some(error) = cause.downcast_ref::<nightshift_local::Error>() {
            return local(error);
        }
        if cause.is::<nightshift_jobs::SpecErrors>() {
            return (Exit::Usage, None);
        }
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return match error.kind() {
                std::io::ErrorKind::NotFound => (Exit::NotFound, None),
                std::io::ErrorKind::PermissionDenied => (Exit::Refused, None),
                _ => (Exit::Unreachable, None),
            };
        }
    }
    (Exit::Usage, None)
}

fn store(error: &nightshift_store::Error) -> (Exit, Option<String>) {
    use nightshift_store::Error as E;
    match error {
        E::Refused { detail, hint, .. } => {
            let help: Vec<&str> = [detail, hint].into_iter().flatten().map(String::as_str).filter(|text| !text.is_empty()).collect();
            (Exit::Refused, Some(help.join("\nhelp: ")).filter(|help| !help.is_empty()))
        }
        E::NotFound { is_job, .. } => {
            let lists = "`nightshift ps -a` lists the jobs of this login".to_owned();
            (Exit::NotFound, is_job.then_some(lists))
        }
        E::VersionMismatch { hint, .. } => (Exit::Unreachable, Some(hint.clone())),
        E::Denied { .. } => (
            Exit::Refused,
            Some("check login and password in DATABASE_URL (of the owner in NIGHTSHIFT_OWNER_URL, for admin and migrate), and that the login may do this".to_owned()),
        ),
        E::BadConfig { .. } => (
            Exit::Usage,
            Some("`nightshift config show --origin` shows where database.url comes from".to_owned()),
        ),
        E::LeaseLost | E::NotLeader | E::UnknownWorker => (Exit::Refused, None),
        E::Locked(_) => (
            Exit::Unreachable,
            Some("wait for it, or look for it: select pid, state, query from pg_stat_activity where xact_start < now() - interval '10 seconds'".to_owned()),
        ),
        E::Unreachable(_) => (
            Exit::Unreachable,
            Some("check that Postgres is running and that DATABASE_URL points to it; `nightshift doctor` checks it in detail".to_owned()),
        ),
        E::Unexpected(_) | E::Inconsistent { .. } => (Exit::Unreachable, None),
    }
}

fn objects(error: &nightshift_objects::Error) -> (Exit, Option<String>) {
    use nightshift_objects::Error as E;
    match error {
        E::NotFound { .. } => (Exit::NotFound, None),
        E::Unauthenticated { .. } => (Exit::Refused, None),
        E::Misdirected { .. } => (Exit::Unreachable, None),
        E::Denied { .. } => (
            Exit::Refused,
            Some("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and what they may do".to_owned()),
        ),
        error if error.is_transient() => (
            Exit::Unreachable,
            Some("check AWS_ENDPOINT_URL_S3; `nightshift doctor` checks it in detail".to_owned()),
        ),
        _ => (Exit::Refused, None),
    }
}

fn local(error: &nightshift_local::Error) -> (Exit, Option<String>) {
    use nightshift_local::Error as E;
    match error {
        E::AlreadyRunning { .. }
        | E::NotLoopback { .. }
        | E::ForeignOwner { .. }
        | E::ForeignFolder { .. } => (Exit::Refused, None),
        _ => (Exit::Unreachable, None),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn each_decision_has_its_code() {
        let code = |error: anyhow::Error| classify(&error.context("while testing")).0;
        let refused = nightshift_store::Error::Refused {
            message: "no".into(),
            detail: Some(String::new()),
            hint: Some("do".into()),
        };
        assert_eq!(classify(&anyhow::Error::from(refused)), (Exit::Refused, Some("do".into())));
        let missing = nightshift_store::Error::NotFound { is_job: true, message: "job 7".into() };
        assert_eq!(code(missing.into()), Exit::NotFound);
        let denied = nightshift_store::Error::Denied { message: "x".into() };
        assert_eq!(code(denied.into()), Exit::Refused);
        let bad = nightshift_store::Error::BadConfig { message: "x".into() };
        assert_eq!(code(bad.into()), Exit::Usage);
        let file = std::fs::read("/no/such/file").context("reading").unwrap_err();
        assert_eq!(code(file), Exit::NotFound);
        assert_eq!(code(Failure::new(Exit::TimedOut, "late").into()), Exit::TimedOut);
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(pipe).context("printing")));
    }
}
