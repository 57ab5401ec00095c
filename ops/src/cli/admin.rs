//! Arguments of `admin`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OutputArgs;

/// `admin ...`.
#[derive(Debug, Subcommand)]
pub enum AdminVerb {
    /// Teams: where their data may be stored, their share, limits and quota
    #[command(subcommand)]
    Tenant(TenantVerb),
    /// Logins of a tenant
    #[command(subcommand)]
    Member(MemberVerb),
    /// Logins of workers and schedulers; removal of any login
    #[command(subcommand)]
    Login(LoginVerb),
    /// Workers, and whether they may take new work
    #[command(subcommand)]
    Worker(WorkerVerb),
    /// Remove jobs that ended long ago, their rows, and old events; what they made stays in the object store
    Prune {
        /// Age since they ended, such as 90d
        #[arg(long, value_name = "TIME", value_parser = crate::units::parse_duration)]
        older_than: std::time::Duration,
        /// Rows removed in one transaction
        #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
        batch: i32,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// `admin tenant ...`.
#[derive(Debug, Subcommand)]
pub enum TenantVerb {
    /// Create a tenant
    Create {
        /// Its name
        name: String,
        /// What it may do
        #[command(flatten)]
        settings: TenantSettingArgs,
    },
    /// Change the given settings and keep the others
    Set {
        /// Its name
        name: String,
        /// What it may do
        #[command(flatten)]
        settings: TenantSettingArgs,
    },
    /// List tenants
    List {
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one tenant
    Show {
        /// Its name
        name: String,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// What a tenant may do.
#[derive(Debug, Clone, Args)]
pub struct TenantSettingArgs {
    /// Allow inputs below this prefix, such as s3://bucket/path/; give all prefixes, `none` to allow nowhere
    #[arg(long = "input", value_name = "PREFIX")]
    pub inputs: Vec<String>,
    /// Allow destinations below this prefix; give all prefixes, `none` to allow nowhere
    #[arg(long = "dest", value_name = "PREFIX")]
    pub dests: Vec<String>,
    /// Allow `notify` to call URLs below this, such as `https://hooks.example.com/`; give all of them, `none` to allow nowhere
    #[arg(long = "webhook", value_name = "PREFIX")]
    pub webhooks: Vec<String>,
    /// Allow `notify` to sign with this variable of the scheduler's environment; give all of them, `none` to allow no secret
    #[arg(long = "secret", value_name = "NAME")]
    pub secrets: Vec<String>,
    /// Share of the machines relative to the other tenants; initially 1
    #[arg(long, value_name = "NUMBER")]
    pub weight: Option<f64>,
    /// Shards leased at a time; `none` for no limit
    #[arg(long, value_name = "N", value_parser = limit::<u32>)]
    pub max_leased: Option<Limit<u32>>,
    /// Engine hours in a calendar month (UTC); `none` for no limit
    #[arg(long, value_name = "HOURS", value_parser = limit::<f64>)]
    pub gpu_hours: Option<Limit<f64>>,
}

/// A limit as typed; `none` lifts it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit<T>(pub Option<T>);

fn limit<T: std::str::FromStr>(text: &str) -> Result<Limit<T>, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => match number.parse() {
            Ok(number) => Ok(Limit(Some(number))),
            Err(_) => Err("expected a number or `none`".to_owned()),
        },
    }
}

/// `admin member ...`.
#[derive(Debug, Subcommand)]
pub enum MemberVerb {
    /// Let a login act for a tenant; with a password, create the login or change its password
    Add {
        /// The tenant
        tenant: String,
        /// The login
        login: String,
        /// Its password
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Take a login out of a tenant
    Remove {
        /// The tenant
        tenant: String,
        /// The login
        login: String,
    },
    /// List logins with their tenants
    List {
        /// Only those of this tenant
        tenant: Option<String>,
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// `admin login ...`.
#[derive(Debug, Subcommand)]
pub enum LoginVerb {
    /// Create a login, or change its password
    Create {
        /// What it may do
        #[arg(value_parser = ["worker", "scheduler"])]
        kind: String,
        /// The login
        login: String,
        /// Its password
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Remove a login of any kind
    Drop {
        /// The login
        login: String,
    },
    /// List logins of all kinds
    List {
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Where a password comes from. There is no flag for the password itself: other users of the machine can read arguments.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub struct PasswordArgs {
    /// Read the password from the first line of standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Read the password from this environment variable
    #[arg(long, value_name = "VARIABLE")]
    pub password_env: Option<String>,
    /// Generate a password and write it to this new file, which only you can read
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// `admin worker ...`.
#[derive(Debug, Subcommand)]
pub enum WorkerVerb {
    /// List workers
    List {
        /// How to print
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Let a worker finish what is in its slots and take nothing new
    Drain {
        /// The worker's id
        worker: i64,
    },
    /// Let a draining worker take new work again
    Undrain {
        /// The worker's id
        worker: i64,
    },
}
