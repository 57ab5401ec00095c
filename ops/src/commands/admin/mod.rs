//! `admin`: what the owner of the database does for tenants, logins and workers.

mod password;

use std::time::Duration;

use nightshift_store::{LoginKind, Pruned, Store, TenantSettings};
use serde_json::Value;

use crate::cli::{
    AdminVerb, LoginVerb, MemberVerb, PasswordArgs, TenantSettingArgs, TenantVerb, WorkerVerb,
};
use crate::connect;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Format;
use crate::output::{Column, column, one, rows};

/// Does what was typed.
///
/// # Errors
/// The login is not an administrator; the named object does not exist; those of the store and of standard output.
pub async fn run(context: Context, verb: AdminVerb) -> anyhow::Result<Exit> {
    let store = connect::owner_store(&context.config, "nightshift admin").await?;
    match perform(&context, &store, verb).await {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => Err(match error.downcast_ref() {
            Some(nightshift_store::Error::Denied { message }) => {
                Failure::new(Exit::Refused, message.clone())
                    .help("admin needs the owner of the database: set NIGHTSHIFT_OWNER_URL (`nightshift up` sets it in the file that it names)")
                    .into()
            }
            _ => error,
        }),
    }
}

async fn perform(context: &Context, store: &Store, verb: AdminVerb) -> anyhow::Result<()> {
    match verb {
        AdminVerb::Tenant(verb) => tenant(context, store, verb).await,
        AdminVerb::Member(verb) => member(context, store, verb).await,
        AdminVerb::Login(verb) => login(context, store, verb).await,
        AdminVerb::Worker(verb) => worker(context, store, verb).await,
        AdminVerb::Prune { older_than, batch, output } => {
            prune(store, older_than, batch, output.output).await
        }
    }
}

const TENANT_COLUMNS: [Column; 8] = [
    column("TENANT", "name"),
    column("WEIGHT", "weight"),
    column("LEASED", "n_leased"),
    column("MOST", "max_leased"),
    column("HOURS", "month_gpu_hours"),
    column("MOST", "max_gpu_hours"),
    column("INPUTS", "input_prefixes"),
    column("DESTINATIONS", "dest_prefixes"),
];

async fn tenant(context: &Context, store: &Store, verb: TenantVerb) -> anyhow::Result<()> {
    match verb {
        TenantVerb::Create { name, settings } => {
            store.create_tenant(&name, &settings_of(settings)?).await?;
            context.ui.note(&format!("tenant {name} is created; `nightshift admin member add {name} LOGIN` lets a login act for it"));
        }
        TenantVerb::Set { name, settings } => {
            store.set_tenant(&name, &settings_of(settings)?).await?;
            context.ui.note(&format!(
                "tenant {name} is changed; `nightshift admin tenant show {name}` shows it"
            ));
        }
        TenantVerb::List { output } => {
            let mut list = values(&store.tenants().await?)?;
            if output.output == Format::Table {
                for tenant in &mut list {
                    let hours = tenant["month_gpu_hours"].as_f64().unwrap_or(0.0);
                    tenant["month_gpu_hours"] = format!("{hours:.2}").into();
                }
            }
            let mut out = std::io::stdout().lock();
            rows(&mut out, output.output, &TENANT_COLUMNS, &list)?;
        }
        TenantVerb::Show { name, output } => {
            let tenants = store.tenants().await?;
            let Some(tenant) = tenants.iter().find(|tenant| tenant.name == name) else {
                let help = "`nightshift admin tenant list` lists them";
                let message = format!("there is no tenant {name}");
                return Err(Failure::new(Exit::NotFound, message).help(help).into());
            };
            let value = serde_json::to_value(tenant)?;
            one(&mut std::io::stdout().lock(), output.output, &value)?;
        }
    }
    Ok(())
}

fn settings_of(typed: TenantSettingArgs) -> Result<TenantSettings, Failure> {
    Ok(TenantSettings {
        input_prefixes: places("--input", typed.inputs)?,
        dest_prefixes: places("--dest", typed.dests)?,
        webhook_prefixes: places("--webhook", typed.webhooks)?,
        secret_names: places("--secret", typed.secrets)?,
        weight: typed.weight,
        max_leased: typed.max_leased.map(|limit| limit.0),
        max_gpu_hours: typed.gpu_hours.map(|limit| limit.0),
    })
}

/// The list that a flag gives; `none` alone is the empty one.
fn places(flag: &str, typed: Vec<String>) -> Result<Option<Vec<String>>, Failure> {
    match typed.iter().filter(|place| *place == "none").count() {
        0 if typed.is_empty() => Ok(None),
        0 => Ok(Some(typed)),
        _ if typed.len() == 1 => Ok(Some(Vec::new())),
        _ => Err(Failure::new(
            Exit::Usage,
            format!("{flag} none cannot be combined with other values"),
        )),
    }
}

const LOGIN_COLUMNS: [Column; 3] =
    [column("LOGIN", "login"), column("KIND", "kind"), column("TENANTS", "tenants")];

async fn member(context: &Context, store: &Store, verb: MemberVerb) -> anyhow::Result<()> {
    match verb {
        MemberVerb::Add { tenant, login, password } => {
            if password::given(&password) {
                // A tenant is made on purpose, not by a slip of the pen.
                store.set_tenant(&tenant, &TenantSettings::default()).await?;
                let kind = LoginKind::Tenant;
                create_login(context, store, kind, &login, &password, Some(&tenant)).await?;
            } else {
                store.add_member(&login, &tenant).await?;
            }
            context.ui.note(&format!("login {login} acts for tenant {tenant}"));
        }
        MemberVerb::Remove { tenant, login } => {
            store.remove_member(&login, &tenant).await?;
            context.ui.note(&format!("login {login} no longer acts for tenant {tenant}"));
        }
        MemberVerb::List { tenant, output } => {
            let mut logins = store.logins().await?;
            logins.retain(|login| match &tenant {
                Some(tenant) => login.tenants.contains(tenant),
                None => !login.tenants.is_empty(),
            });
            list(output.output, &LOGIN_COLUMNS, &logins)?;
        }
    }
    Ok(())
}

async fn login(context: &Context, store: &Store, verb: LoginVerb) -> anyhow::Result<()> {
    match verb {
        LoginVerb::Create { kind, login, password } => {
            let role = match kind.as_str() {
                "worker" => LoginKind::Worker,
                _ => LoginKind::Scheduler,
            };
            create_login(context, store, role, &login, &password, None).await?;
            context.ui.note(&format!("login {login} is now a {kind} login with this password"));
        }
        LoginVerb::Drop { login } => {
            store.drop_login(&login).await?;
            context.ui.note(&format!("login {login} is removed"));
        }
        LoginVerb::List { output } => {
            list(output.output, &LOGIN_COLUMNS, &store.logins().await?)?;
        }
    }
    Ok(())
}

async fn create_login(
    context: &Context,
    store: &Store,
    kind: LoginKind,
    login: &str,
    typed: &PasswordArgs,
    tenant: Option<&str>,
) -> anyhow::Result<()> {
    let password = password::take(typed)?;
    let made = store.create_login(kind, login, password.text(), tenant).await;
    if let Err(error) = made {
        password.discard();
        return Err(error.into());
    }
    if let Some(path) = &typed.password_file {
        context.ui.note(&format!("the password is in {}", path.display()));
    }
    Ok(())
}

const WORKER_COLUMNS: [Column; 5] = [
    column("WORKER", "id"),
    column("NAME", "name"),
    column("STATE", "state"),
    column("LEASED", "n_leased"),
    column("MODELS", "models"),
];

async fn worker(context: &Context, store: &Store, verb: WorkerVerb) -> anyhow::Result<()> {
    match verb {
        WorkerVerb::List { output } => {
            let workers = store.workers().await?;
            let mut list = values(&workers)?;
            if output.output == Format::Table {
                for worker in &mut list {
                    let models = worker["models"].as_object().into_iter().flatten();
                    worker["models"] = models.map(|(model, _)| model.as_str()).collect();
                }
            }
            let mut out = std::io::stdout().lock();
            rows(&mut out, output.output, &WORKER_COLUMNS, &list)?;
        }
        WorkerVerb::Drain { worker } => {
            store.drain_worker(worker, true).await?;
            context.ui.note(&format!(
                "worker {worker} finishes what is in its slots and takes nothing new"
            ));
        }
        WorkerVerb::Undrain { worker } => {
            store.drain_worker(worker, false).await?;
            context.ui.note(&format!("worker {worker} takes new work again"));
        }
    }
    Ok(())
}

/// Removes batch by batch, so that no transaction is long.
async fn prune(
    store: &Store,
    older_than: Duration,
    batch: i32,
    format: Format,
) -> anyhow::Result<()> {
    let mut removed = Pruned::default();
    loop {
        removed += store.prune(older_than, batch).await?;
        if !removed.more {
            break;
        }
    }
    let value = serde_json::to_value(removed)?;
    one(&mut std::io::stdout().lock(), format, &value)?;
    Ok(())
}

fn list<T: serde::Serialize>(
    format: Format,
    columns: &[Column],
    views: &[T],
) -> anyhow::Result<()> {
    let list = values(views)?;
    rows(&mut std::io::stdout().lock(), format, columns, &list)?;
    Ok(())
}

fn values<T: serde::Serialize>(views: &[T]) -> serde_json::Result<Vec<Value>> {
    views.iter().map(serde_json::to_value).collect()
}
