//! Where the object store is and how to talk to it: environment first, then the AWS files, then defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whether the SDK adds its own checksums (as signed trailers) to streamed requests. Our own sha256 header is always sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChecksumMode {
    /// `WhenSupported` at AWS; elsewhere `WhenRequired` until a probe has shown that trailers arrive unharmed.
    #[default]
    Auto,
    /// The SDK's default. Some peers store the framing of such trailers inside the object.
    WhenSupported,
    /// Only where the operation demands it. Works everywhere.
    WhenRequired,
}

/// Settings of a connection. `Debug` never shows secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `http://host:port` of an S3 endpoint; none means AWS.
    pub endpoint: Option<String>,
    /// Region; `us-east-1` if none.
    pub region: Option<String>,
    /// Access key id; without one, requests are anonymous.
    pub access_key_id: Option<String>,
    /// Secret access key.
    pub secret_access_key: Option<String>,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
    /// Bucket in the path instead of the host name; by default for every explicit endpoint.
    pub force_path_style: Option<bool>,
    /// See [`ChecksumMode`].
    pub checksum_mode: ChecksumMode,
    /// How long one operation is retried before it is [`crate::Error::Unavailable`].
    pub retry_budget: Duration,
    /// How long an operation is tried again while the endpoint refuses it in clear words (no access, no such bucket): most such answers
    /// are about more than a moment. At most `retry_budget`.
    pub refusal_patience: Duration,
    /// How long one attempt may stay without progress.
    pub attempt_timeout: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            force_path_style: None,
            checksum_mode: ChecksumMode::Auto,
            retry_budget: Duration::from_secs(30),
            refusal_patience: Duration::from_secs(2),
            attempt_timeout: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &Option<String>| secret.as_ref().map(|_| "(set, not shown)");
        f.debug_struct("StoreConfig")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &hidden(&self.secret_access_key))
            .field("session_token", &hidden(&self.session_token))
            .field("force_path_style", &self.force_path_style)
            .field("checksum_mode", &self.checksum_mode)
            .field("retry_budget", &self.retry_budget)
            .field("refusal_patience", &self.refusal_patience)
            .field("attempt_timeout", &self.attempt_timeout)
            .finish()
    }
}

impl StoreConfig {
    /// Reads `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
    /// `AWS_SESSION_TOKEN`, and what they leave open from the profile `AWS_PROFILE` (else `default`) of `~/.aws/credentials` and `~/.aws/config`.
    /// A file that is missing or not readable counts as empty.
    pub fn from_env() -> Self {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// As [`StoreConfig::from_env`], with the environment given.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let file = |name: &str, default: &str| -> String {
            let path = var(name)
                .map(PathBuf::from)
                .or_else(|| Some(Path::new(&var("HOME")?).join(".aws").join(default)));
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let profile = var("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
        let config_section =
            if profile == "default" { profile.clone() } else { format!("profile {profile}") };
        let settings = section(&file("AWS_CONFIG_FILE", "config"), &config_section);
        let mut config = Self {
            endpoint: var("AWS_ENDPOINT_URL_S3")
                .or_else(|| var("AWS_ENDPOINT_URL"))
                .or_else(|| settings.get("endpoint_url").cloned()),
            region: var("AWS_REGION")
                .or_else(|| var("AWS_DEFAULT_REGION"))
                .or_else(|| settings.get("region").cloned()),
            ..Self::default()
        };
        // Key, secret and token belong together: never a key from here with a secret from there.
        if let (Some(key), Some(secret)) = (var("AWS_ACCESS_KEY_ID"), var("AWS_SECRET_ACCESS_KEY"))
        {
            config.set_credentials(key, secret, var("AWS_SESSION_TOKEN"));
            return config;
        }
        let credentials = section(&file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &profile);
        for source in [credentials, settings] {
            if let (Some(key), Some(secret)) =
                (source.get("aws_access_key_id"), source.get("aws_secret_access_key"))
            {
                config.set_credentials(
                    key.clone(),
                    secret.clone(),
                    source.get("aws_session_token").cloned(),
                );
                break;
            }
        }
        config
    }

    fn set_credentials(&mut self, key: String, secret: String, token: Option<String>) {
        self.access_key_id = Some(key);
        self.secret_access_key = Some(secret);
        self.session_token = token;
    }

    /// Whether this is AWS itself, whose behaviour is known.
    pub(crate) fn is_aws(&self) -> bool {
        self.endpoint.as_ref().is_none_or(|endpoint| {
            let host = endpoint
                .split("://")
                .last()
                .unwrap_or(endpoint)
                .split(['/', ':'])
                .next()
                .unwrap_or_default();
            host == "amazonaws.com"
                || host.ends_with(".amazonaws.com")
                || host.ends_with(".amazonaws.com.cn")
        })
    }

    pub(crate) fn path_style(&self) -> bool {
        self.force_path_style.unwrap_or(!self.is_aws())
    }
}

/// The `name = value` lines of one `[section]`. Nested lines (indented) belong to other services and are skipped.
fn section(text: &str, wanted: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = name.split_whitespace().eq(wanted.split_whitespace());
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((name, value)) = trimmed.split_once('=')
        {
            values.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> StoreConfig {
        let map: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        StoreConfig::from_vars(|name| map.get(name).cloned())
    }

    #[test]
    fn the_environment_wins_over_the_files() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        let credentials = "[default]\naws_access_key_id = AK\naws_secret_access_key=SK\n[other]\naws_access_key_id = AK2\naws_secret_access_key = S=K2\naws_session_token = T2\n";
        std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
        let config = "[default]\nregion = eu-central-1\n[profile other]\nregion = eu-west-1\nendpoint_url = http://h:1\ns3 =\n  region = no\n";
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        let home = home.path().to_str().unwrap();

        let default = vars(&[("HOME", home)]);
        assert_eq!(
            (default.access_key_id.as_deref(), default.region.as_deref(), default.endpoint),
            (Some("AK"), Some("eu-central-1"), None)
        );
        let other = vars(&[("HOME", home), ("AWS_PROFILE", "other"), ("AWS_REGION", "r")]);
        assert_eq!(
            (other.secret_access_key.as_deref(), other.session_token.as_deref()),
            (Some("S=K2"), Some("T2"))
        );
        assert_eq!(
            (other.region.as_deref(), other.endpoint.as_deref()),
            (Some("r"), Some("http://h:1"))
        );
        let env = vars(&[
            ("HOME", home),
            ("AWS_ACCESS_KEY_ID", "X"),
            ("AWS_SECRET_ACCESS_KEY", "Y"),
            ("AWS_ENDPOINT_URL", "a"),
            ("AWS_ENDPOINT_URL_S3", "b"),
        ]);
        assert_eq!(
            (env.access_key_id.as_deref(), env.session_token, env.endpoint.as_deref()),
            (Some("X"), None, Some("b"))
        );
        let half = vars(&[("HOME", home), ("AWS_ACCESS_KEY_ID", "X")]);
        assert_eq!(
            (half.access_key_id.as_deref(), half.secret_access_key.as_deref()),
            (Some("AK"), Some("SK")),
            "never half of one pair"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = vars(&[
            ("AWS_ACCESS_KEY_ID", "AKID"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_SESSION_TOKEN", "tok3n"),
        ]);
        let text = format!("{config:?}");
        assert!(
            text.contains("AKID") && !text.contains("hunter2") && !text.contains("tok3n"),
            "{text}"
        );
    }

    #[test]
    fn path_style_everywhere_but_at_aws() {
        let at = |endpoint: &str| {
            StoreConfig { endpoint: Some(endpoint.into()), ..StoreConfig::default() }.path_style()
        };
        assert!(
            at("http://127.0.0.1:9000")
                && at("http://localhost")
                && at("https://minio.example.org/")
                && at("https://amazonaws.com.evil.org")
        );
        assert!(!at("https://s3.eu-west-1.amazonaws.com") && !StoreConfig::default().path_style());
    }
}
