//! What an administrator does: logins, tenants, allowed prefixes. Needs the login that ran [`crate::migrate`].

use crate::{Error, Store};

/// What a login may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginKind {
    /// Submit jobs of its tenants and read their views.
    Tenant,
    /// Run shards; touches no table.
    Worker,
    /// Plan and settle jobs; touches no table.
    Scheduler,
}

impl LoginKind {
    /// The group role.
    #[must_use]
    pub const fn role(self) -> &'static str {
        match self {
            Self::Tenant => "nightshift_tenant",
            Self::Worker => "nightshift_worker",
            Self::Scheduler => "nightshift_scheduler",
        }
    }
}

/// Attempts at a login that others make at the same moment.
const LOGIN_TRIES: u32 = 10;

/// Whether somebody made or changed the same role meanwhile. Roles belong to the whole cluster, where no lock of one database
/// reaches, so Postgres answers with a duplicate (42710, 23505) or with "tuple concurrently updated" (XX000).
fn is_same_moment(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("42710" | "23505" | "XX000"))
}

/// How much room a table takes.
#[derive(Debug, Clone)]
pub struct TableSize {
    /// Its name; a partition counts as its table.
    pub table: String,
    /// Bytes of rows, long values included.
    pub heap_bytes: i64,
    /// Bytes of its indexes.
    pub index_bytes: i64,
}

impl Store {
    /// Sizes of all tables, by name. Role: administrator.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub async fn table_sizes(&self) -> Result<Vec<TableSize>, Error> {
        Ok(sqlx::query_as!(
            TableSize,
            r#"/* table_sizes */ select coalesce(p.relname, c.relname)::text as "table!", sum(pg_table_size(c.oid))::bigint as "heap_bytes!",
                sum(pg_indexes_size(c.oid))::bigint as "index_bytes!"
            from pg_class c left join pg_inherits i on i.inhrelid = c.oid left join pg_class p on p.oid = i.inhparent
            where c.relnamespace = 'nightshift'::regnamespace and c.relkind = 'r' group by 1 order by 1"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Creates a login, or changes the password of an existing one, and puts it into its group; a tenant's login also
    /// becomes a member of `tenant` (which is created when new). Role: administrator.
    ///
    /// # Errors
    /// [`Error::Refused`] when the name is not `[a-z_][a-z0-9_]{0,62}`, belongs to another group, or a tenant login has no tenant.
    pub async fn create_login(
        &self,
        kind: LoginKind,
        name: &str,
        password: &str,
        tenant: Option<&str>,
    ) -> Result<(), Error> {
        let kind = kind.role().trim_start_matches("nightshift_");
        // The server takes either; but a statement may stand in its log, and from this nobody reads the password.
        let password = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let mut tries = 0;
        loop {
            let made = sqlx::query!(
                "/* create_login */ select nightshift.create_login($1, $2, $3, $4)",
                kind,
                name,
                password,
                tenant
            )
            .fetch_one(&self.pool)
            .await;
            tries += 1;
            match made {
                Ok(_) => return Ok(()),
                Err(error) if tries < LOGIN_TRIES && is_same_moment(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Creates a tenant if new and sets which prefixes its inputs and destinations may have (`s3://bucket/path/`; `s3://` is
    /// every bucket; an empty list allows nothing). Role: administrator.
    ///
    /// # Errors
    /// [`Error::Refused`] when a prefix has no scheme.
    pub async fn set_prefixes(
        &self,
        tenant: &str,
        input_prefixes: &[String],
        dest_prefixes: &[String],
    ) -> Result<(), Error> {
        sqlx::query!(
            "/* set_prefixes */ select nightshift.set_prefixes($1, $2, $3)",
            tenant,
            input_prefixes,
            dest_prefixes,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(())
    }

    /// Asks a worker to finish what is in its slots and take nothing new (or undoes it). Role: administrator.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn drain_worker(&self, worker: i64, drain: bool) -> Result<(), Error> {
        sqlx::query!("/* drain_worker */ select nightshift.drain_worker($1, $2)", worker, drain)
            .fetch_one(&self.pool)
            .await?;
        Ok(())
    }
}
