//! Tenants and logins, as their administrator sets and sees them. Needs the login that ran [`crate::migrate`], or another
//! member of its group; tenants may read their own rows.

use serde::Serialize;

use crate::{Error, Store};

/// What to change of a tenant. `None` leaves a setting as it is; a limit of `Some(None)` is lifted.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TenantSettings {
    /// Where its inputs may lie: `s3://bucket/path/`; `s3://` is every bucket; an empty list allows nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_prefixes: Option<Vec<String>>,
    /// Where its destinations may lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_prefixes: Option<Vec<String>>,
    /// Where `notify` may call: `https://host/path/`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_prefixes: Option<Vec<String>>,
    /// Names of secrets that `notify` may sign with; their values are in the environment of the scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_names: Option<Vec<String>>,
    /// Its share relative to the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Shards leased at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_leased: Option<Option<u32>>,
    /// Engine hours in a calendar month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gpu_hours: Option<Option<f64>>,
}

/// A tenant, as in the view `tenants`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantView {
    /// Name for people.
    pub name: String,
    /// Where its inputs may lie.
    pub input_prefixes: Vec<String>,
    /// Where its destinations may lie.
    pub dest_prefixes: Vec<String>,
    /// Where `notify` may call.
    pub webhook_prefixes: Vec<String>,
    /// Names of secrets that `notify` may sign with.
    pub secret_names: Vec<String>,
    /// Its share relative to the others.
    pub weight: f64,
    /// Engine seconds it has had, those of a week ago counted half.
    pub usage_seconds: f64,
    /// Shards leased at a time; `None`: any number.
    pub max_leased: Option<i32>,
    /// Shards leased now.
    pub n_leased: i64,
    /// Engine hours in a calendar month (UTC); `None`: any number.
    pub max_gpu_hours: Option<f64>,
    /// Engine hours of this month.
    pub month_gpu_hours: f64,
    /// Jobs that are neither over nor waiting to be planned.
    pub n_active_jobs: i64,
    /// When it was made.
    pub created_unix_ms: i64,
}

/// A login, as in the view `logins`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoginView {
    /// Its name.
    pub login: String,
    /// `tenant`, `worker` or `scheduler`; `None` when it was not made by [`Store::create_login`].
    pub kind: Option<String>,
    /// Tenants it acts for.
    pub tenants: Vec<String>,
}

impl Store {
    /// Tenants, by name: all for an administrator, its own for a tenant's login.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn tenants(&self) -> Result<Vec<TenantView>, Error> {
        Ok(sqlx::query_as!(
            TenantView,
            r#"/* tenants */ select name as "name!", input_prefixes as "input_prefixes!", dest_prefixes as "dest_prefixes!",
                webhook_prefixes as "webhook_prefixes!", secret_names as "secret_names!", weight as "weight!",
                usage_seconds as "usage_seconds!", max_leased, n_leased as "n_leased!", max_gpu_hours, month_gpu_hours as "month_gpu_hours!",
                n_active_jobs as "n_active_jobs!", floor(extract(epoch from created_at) * 1000)::bigint as "created_unix_ms!"
            from nightshift.tenants order by name"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Makes a tenant with these settings. Role: administrator.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is one of this name, or a setting is not valid.
    pub async fn create_tenant(&self, name: &str, settings: &TenantSettings) -> Result<(), Error> {
        self.put_tenant(name, settings, true).await
    }

    /// Changes a tenant. Role: administrator.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Refused`] when a setting is not valid.
    pub async fn set_tenant(&self, name: &str, settings: &TenantSettings) -> Result<(), Error> {
        self.put_tenant(name, settings, false).await
    }

    async fn put_tenant(
        &self,
        name: &str,
        settings: &TenantSettings,
        new: bool,
    ) -> Result<(), Error> {
        let settings = serde_json::to_value(settings)
            .map_err(|e| Error::inconsistent("set_tenant.settings", e))?;
        sqlx::query!(
            "/* set_tenant */ select nightshift.set_tenant($1, $2, $3)",
            name,
            settings,
            new
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(())
    }

    /// Logins of all kinds, by name. Role: administrator.
    ///
    /// # Errors
    /// [`Error::Denied`] for anybody else.
    pub async fn logins(&self) -> Result<Vec<LoginView>, Error> {
        Ok(sqlx::query_as!(
            LoginView,
            r#"/* logins */ select login::text as "login!", kind, tenants as "tenants!" from nightshift.logins order by 1"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Lets an existing login of kind tenant act for one more tenant. Role: administrator.
    ///
    /// # Errors
    /// [`Error::NotFound`] when either is not there, [`Error::Refused`] when the login is of another kind.
    pub async fn add_member(&self, login: &str, tenant: &str) -> Result<(), Error> {
        sqlx::query!("/* add_member */ select nightshift.add_member($1, $2)", login, tenant)
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }

    /// Takes a login out of a tenant. Role: administrator.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn remove_member(&self, login: &str, tenant: &str) -> Result<(), Error> {
        sqlx::query!("/* remove_member */ select nightshift.remove_member($1, $2)", login, tenant)
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }

    /// Removes a login that [`Store::create_login`] made. Role: administrator.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not one of those.
    pub async fn drop_login(&self, login: &str) -> Result<(), Error> {
        sqlx::query!("/* drop_login */ select nightshift.drop_login($1)", login)
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }
}
