//! Configuration: what was typed, set and written becomes one table of values, each with its origin.
//!
//! Precedence: flag, environment, `./nightshift.toml`, `$XDG_CONFIG_HOME/nightshift/config.toml`,
//! `/etc/nightshift/config.toml`, default. An unknown key in a file is an error. Credentials of the object store are not
//! configuration: they come from the usual `AWS_*` variables or the shared credentials file.

pub mod scheduler;
pub mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// One key that can be configured.
pub struct Key {
    /// Its name in files, with dots between tables.
    pub name: &'static str,
    /// Environment variables that set it, the strongest first.
    pub env: &'static [&'static str],
    /// The value when nobody sets it; empty means unset.
    pub default: &'static str,
    /// Which values are legal.
    pub form: Form,
    /// Never printed.
    pub secret: bool,
    /// What it is, with its unit.
    pub help: &'static str,
}

/// The legal values of a key.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// Any text.
    Text,
    /// A whole number of at least the given size.
    Number(u64),
    /// One of a few words.
    Word(&'static [&'static str]),
}

const fn text(
    name: &'static str,
    env: &'static [&'static str],
    default: &'static str,
    help: &'static str,
) -> Key {
    Key { name, env, default, form: Form::Text, secret: false, help }
}

/// Every key there is.
pub const KEYS: &[Key] = &[
    Key {
        secret: true,
        ..text(
            "database.url",
            &["NIGHTSHIFT_DATABASE_URL", "DATABASE_URL"],
            "",
            "Postgres: postgres://login:password@host:port/database",
        )
    },
    Key {
        form: Form::Word(&["session", "transaction"]),
        ..text(
            "database.pooler",
            &["NIGHTSHIFT_DATABASE_POOLER"],
            "session",
            "transaction when the URL is a PgBouncer in transaction mode",
        )
    },
    Key {
        secret: true,
        ..text(
            "database.direct_url",
            &["NIGHTSHIFT_DATABASE_DIRECT_URL"],
            "",
            "Postgres around that pooler, for hints (LISTEN) and migrate; empty is polling alone",
        )
    },
    Key {
        secret: true,
        ..text(
            "database.owner_url",
            &["NIGHTSHIFT_OWNER_URL"],
            "",
            "Postgres as the owner of the database, for admin and migrate; empty is database.url",
        )
    },
    Key {
        form: Form::Number(100),
        ..text(
            "database.timeout_ms",
            &["NIGHTSHIFT_DATABASE_TIMEOUT_MS"],
            "15000",
            "how long a call waits for an answer of the database before its connection is cut, in milliseconds",
        )
    },
    text(
        "tenant",
        &["NIGHTSHIFT_TENANT"],
        "",
        "tenant to submit for; empty is the only one of the login",
    ),
    text(
        "storage.endpoint",
        &["NIGHTSHIFT_STORAGE_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
        "",
        "S3 endpoint; empty is AWS",
    ),
    text(
        "storage.region",
        &["NIGHTSHIFT_STORAGE_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"],
        "",
        "S3 region",
    ),
    Key {
        form: Form::Word(&["auto", "true", "false"]),
        ..text(
            "storage.path_style",
            &["NIGHTSHIFT_STORAGE_PATH_STYLE"],
            "auto",
            "address buckets in the path; auto does so for a custom endpoint",
        )
    },
    Key {
        form: Form::Word(&["auto", "when_supported", "when_required"]),
        ..text(
            "storage.checksum_mode",
            &["NIGHTSHIFT_STORAGE_CHECKSUM_MODE"],
            "auto",
            "when uploads carry checksums",
        )
    },
    text(
        "models_dir",
        &["NIGHTSHIFT_MODELS_DIR"],
        "",
        "folder with one folder per model; empty is <data>/models",
    ),
    text("data", &["NIGHTSHIFT_DATA"], ".nightshift", "folder of the local system (run, up)"),
    text(
        "worker.name",
        &["NIGHTSHIFT_WORKER_NAME"],
        "",
        "name of this worker; empty is host name and process id",
    ),
    text(
        "worker.models",
        &["NIGHTSHIFT_WORKER_MODELS"],
        "",
        "models to load, separated by commas; empty is every folder of models_dir",
    ),
    text(
        "worker.formats",
        &["NIGHTSHIFT_WORKER_FORMATS"],
        "int4/bf16",
        "numeric formats to offer, weights/kv_cache, separated by commas",
    ),
    text(
        "worker.labels",
        &["NIGHTSHIFT_WORKER_LABELS"],
        "",
        "what jobs may ask for with resources.labels: key=value, separated by commas",
    ),
    Key {
        form: Form::Number(0),
        ..text(
            "worker.memory_mb",
            &["NIGHTSHIFT_WORKER_MEMORY_MB"],
            "0",
            "memory of the device, which jobs may ask for with resources.gpu.min_memory, in MB; 0 is that of the machine",
        )
    },
    Key {
        form: Form::Number(1),
        ..text("worker.slots", &["NIGHTSHIFT_WORKER_SLOTS"], "2", "pictures drawn at the same time")
    },
    Key {
        form: Form::Number(0),
        ..text(
            "worker.cache_mb",
            &["NIGHTSHIFT_WORKER_CACHE_MB"],
            "0",
            "memory for the caches of one model, shared equally by its slots, in MB; 0 is no limit",
        )
    },
    Key {
        form: Form::Number(0),
        ..text(
            "worker.threads",
            &["NIGHTSHIFT_WORKER_THREADS"],
            "0",
            "threads of the engine; 0 is one per core",
        )
    },
    Key {
        form: Form::Number(1_000),
        ..text(
            "worker.lease_ms",
            &["NIGHTSHIFT_WORKER_LEASE_MS"],
            "30000",
            "how long a lease lasts without a sign of life, in milliseconds",
        )
    },
    Key {
        form: Form::Number(0),
        ..text(
            "worker.grace_ms",
            &["NIGHTSHIFT_WORKER_GRACE_MS"],
            "30000",
            "how long a worker may finish pictures after SIGTERM, in milliseconds",
        )
    },
    Key {
        form: Form::Number(10),
        ..text(
            "scheduler.tick_ms",
            &["NIGHTSHIFT_SCHEDULER_TICK_MS"],
            "500",
            "longest time between two looks at the jobs, in milliseconds",
        )
    },
    text(
        "scheduler.metrics",
        &["NIGHTSHIFT_SCHEDULER_METRICS"],
        "",
        "address at which the scheduler answers Prometheus, such as 127.0.0.1:9464; empty is off",
    ),
    text("log", &["NIGHTSHIFT_LOG"], "warn,nightshift=info", "what to log, as a tracing filter"),
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    Flag(String),
    /// An environment variable.
    Env(String),
    /// A configuration file.
    File(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// All values with their origins.
#[derive(Debug, Clone)]
pub struct Config {
    values: BTreeMap<&'static str, (String, Origin)>,
}

/// What the process was started with; tests build their own.
pub struct Surroundings {
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Files that may exist, the strongest first.
    pub files: Vec<PathBuf>,
    /// A file named by `--config`: it must exist, and takes precedence over the others.
    pub explicit: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process.
    #[must_use]
    pub fn of_process(explicit: Option<PathBuf>) -> Self {
        let env: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = env
            .get("XDG_CONFIG_HOME")
            .filter(|dir| !dir.is_empty())
            .map(PathBuf::from)
            .or_else(|| env.get("HOME").map(|home| Path::new(home).join(".config")));
        let mut files = vec![PathBuf::from("nightshift.toml")];
        files.extend(home.map(|dir| dir.join("nightshift/config.toml")));
        files.push(PathBuf::from("/etc/nightshift/config.toml"));
        Self { env, files, explicit }
    }
}

impl Config {
    /// Joins flags (key name, flag, value), environment and files.
    ///
    /// # Errors
    /// [`Exit::Usage`] for a file that cannot be read or parsed, an unknown key, or an illegal value; the message names the origin.
    pub fn load(
        flags: &[(&'static str, &str, String)],
        around: &Surroundings,
    ) -> Result<Self, Failure> {
        let mut values: BTreeMap<&'static str, (String, Origin)> = BTreeMap::new();
        for (name, flag, value) in flags {
            values.insert(name, (value.clone(), Origin::Flag((*flag).to_owned())));
        }
        for key in KEYS {
            let set = key
                .env
                .iter()
                .find_map(|name| Some((name, around.env.get(*name).filter(|v| !v.is_empty())?)));
            if let Some((name, value)) = set {
                values
                    .entry(key.name)
                    .or_insert_with(|| (value.clone(), Origin::Env((*name).to_owned())));
            }
        }
        if let Some(path) = &around.explicit {
            if !path.exists() {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{}: no such configuration file", path.display()),
                ));
            }
            read_file(path, &mut values)?;
        }
        for path in around.files.iter().filter(|path| path.exists()) {
            read_file(path, &mut values)?;
        }
        for key in KEYS {
            let (value, origin) =
                values.entry(key.name).or_insert_with(|| (key.default.to_owned(), Origin::Default));
            key.form.check(key, value, origin)?;
        }
        Ok(Self { values })
    }

    /// The value of `name`; `None` when it is unset (empty).
    ///
    /// # Panics
    /// When `name` is not one of [`KEYS`].
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (value, _) = self.values.get(name).expect("every key of the table has an entry");
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// Where the value of `name` came from.
    ///
    /// # Panics
    /// When `name` is not one of [`KEYS`].
    #[must_use]
    pub fn origin(&self, name: &str) -> &Origin {
        let (_, origin) = &self.values[name];
        origin
    }

    /// The value of a [`Form::Number`] key.
    ///
    /// # Panics
    /// When `name` is not such a key.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .expect("numbers are checked when the configuration is loaded")
    }

    /// The folder of the local system.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        PathBuf::from(self.get("data").unwrap_or(".nightshift"))
    }

    /// The folder that holds the models.
    #[must_use]
    pub fn models_dir(&self) -> PathBuf {
        self.get("models_dir").map_or_else(|| self.data_dir().join("models"), PathBuf::from)
    }

    /// Every key with its value as it may be shown (secrets hidden) and its origin, in the order of [`KEYS`].
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static Key, String, &Origin)> {
        KEYS.iter()
            .map(|key| {
                let (value, origin) = &self.values[key.name];
                let value = match (key.secret, value.is_empty()) {
                    (true, false) => redact_url(value),
                    _ => value.clone(),
                };
                (key, value, origin)
            })
            .collect()
    }
}

impl Form {
    fn check(self, key: &Key, value: &str, origin: &Origin) -> Result<(), Failure> {
        let wanted = match self {
            Self::Text => return Ok(()),
            Self::Number(least) => match value.parse::<u64>() {
                Ok(number) if number >= least => return Ok(()),
                _ => format!("a whole number of at least {least}"),
            },
            Self::Word(words) if words.contains(&value) => return Ok(()),
            Self::Word(words) => format!("one of {}", words.join(", ")),
        };
        let message = format!("{} ({origin}): expected {wanted}, got \"{value}\"", key.name);
        Err(Failure::new(Exit::Usage, message).help(format!("it is the {}", key.help)))
    }
}

fn read_file(
    path: &Path,
    values: &mut BTreeMap<&'static str, (String, Origin)>,
) -> Result<(), Failure> {
    let broken = |what: String| Failure::new(Exit::Usage, format!("{}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
    // Only the message: the rendered error quotes the source line, which may hold a password.
    let table: toml::Table = toml::from_str(&text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        broken(format!("line {line}: {}", error.message()))
    })?;
    let mut found = Vec::new();
    flatten("", &table, &mut found);
    for (name, value) in found {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
            return Err(broken(format!("unknown key \"{name}\""))
                .help(format!("the keys are {}", known.join(", "))));
        };
        let value = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            other => {
                return Err(broken(format!(
                    "{name}: expected text or a number, got {}",
                    other.type_str()
                )));
            }
        };
        values.entry(key.name).or_insert_with(|| (value, Origin::File(path.to_owned())));
    }
    Ok(())
}

fn flatten<'a>(prefix: &str, table: &'a toml::Table, found: &mut Vec<(String, &'a toml::Value)>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => flatten(&format!("{name}."), inner, found),
            _ => found.push((name, value)),
        }
    }
}

/// `postgres://login:...@host/db`: a URL without its password and its parameters, which may carry one. What cannot be taken apart for
/// certain is hidden as a whole.
#[must_use]
pub fn redact_url(url: &str) -> String {
    const HIDDEN: &str = "(hidden)";
    let Some((scheme, rest)) = url.split_once("://") else {
        return HIDDEN.to_owned();
    };
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // A question mark before an `@` belongs to a password, or the `@` belongs to a parameter.
    if parameters.contains('@') {
        return HIDDEN.to_owned();
    }
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:...@{host}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests;
