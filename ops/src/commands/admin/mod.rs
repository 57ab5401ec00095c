//! `admin`: what the owner of the database does for tenants, logins and workers.

mod password;

use std::time::Duration;

use nightshift_store::{LoginKind, Pruned, Store, TenantSettings};
use serde_json::Value;

use super::Context;
use crate::cli::{
    AdminVerb, Format, LoginVerb, MemberVerb, PasswordArgs, TenantSettingArgs, TenantVerb,
    WorkerVerb,
};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::output::{Column, column, one, rows};

/// Does what was typed.
///
/// # Errors
/// The login is no administrator; what is named is not there; those of the store and of standard output.
pub async fn run(context: Context, verb: AdminVerb) -> anyhow::Result<Exit> {
    let store = connect::store(&context.config, "nightshift admin").await?;
    match verb {
        AdminVerb::Tenant(verb) => tenant(&store, verb).await?,
        AdminVerb::Member(verb) => member(&context, &store, verb).await?,
        AdminVerb::Login(verb) => login(&context, &store, verb).await?,
        AdminVerb::Worker(verb) => worker(&store, verb).await?,
        AdminVerb::Prune {
            older_than,
            batch,
            output,
        } => prune(&store, older_than, batch, output.output).await?,
    }
    Ok(Exit::Ok)
}

const TENANT_COLUMNS: [Column; 8] = [
    column("TENANT", "name"),
    column("WEIGHT", "weight"),
    column("LEASED", "n_leased"),
    column("MAX", "max_leased"),
    column("HOURS", "month_gpu_hours"),
    column("MAX", "max_gpu_hours"),
    column("INPUTS", "input_prefixes"),
    column("DESTINATIONS", "dest_prefixes"),
];

async fn tenant(store: &Store, verb: TenantVerb) -> anyhow::Result<()> {
    match verb {
        TenantVerb::Create { name, settings } => {
            store.create_tenant(&name, &settings_of(settings)?).await?;
        }
        TenantVerb::Set { name, settings } => {
            store.set_tenant(&name, &settings_of(settings)?).await?;
        }
        TenantVerb::List { output } => {
            list(output.output, &TENANT_COLUMNS, &store.tenants().await?)?;
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
            format!("{flag} none stands alone"),
        )),
    }
}

const LOGIN_COLUMNS: [Column; 3] = [
    column("LOGIN", "login"),
    column("KIND", "kind"),
    column("TENANTS", "tenants"),
];

async fn member(context: &Context, store: &Store, verb: MemberVerb) -> anyhow::Result<()> {
    match verb {
        MemberVerb::Add {
            tenant,
            login,
            password,
        } => match password::given(&password) {
            false => store.add_member(&login, &tenant).await?,
            true => {
                // A tenant is made on purpose, not by a slip of the pen.
                store
                    .set_tenant(&tenant, &TenantSettings::default())
                    .await?;
                let kind = LoginKind::Tenant;
                create_login(context, store, kind, &login, &password, Some(&tenant)).await?;
            }
        },
        MemberVerb::Remove { tenant, login } => store.remove_member(&login, &tenant).await?,
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
        LoginVerb::Create {
            kind,
            login,
            password,
        } => {
            let kind = match kind.as_str() {
                "worker" => LoginKind::Worker,
                _ => LoginKind::Scheduler,
            };
            create_login(context, store, kind, &login, &password, None).await?;
        }
        LoginVerb::Drop { login } => store.drop_login(&login).await?,
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
    let made = store
        .create_login(kind, login, password.text(), tenant)
        .await;
    if let Err(error) = made {
        password.discard();
        return Err(error.into());
    }
    if let Some(path) = &typed.password_file {
        context
            .ui
            .note(&format!("the password is in {}", path.display()));
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

async fn worker(store: &Store, verb: WorkerVerb) -> anyhow::Result<()> {
    match verb {
        WorkerVerb::List { output } => {
            list(output.output, &WORKER_COLUMNS, &store.workers().await?)?;
        }
        WorkerVerb::Drain { worker } => store.drain_worker(worker, true).await?,
        WorkerVerb::Undrain { worker } => store.drain_worker(worker, false).await?,
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
    let list: Vec<Value> = views
        .iter()
        .map(serde_json::to_value)
        .collect::<Result<_, _>>()?;
    rows(&mut std::io::stdout().lock(), format, columns, &list)?;
    Ok(())
}
