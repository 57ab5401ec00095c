//! The connections that calls run on: as they are, or through a pooler in transaction mode.
//!
//! Such a pooler may give every transaction another server connection, and hands it on at the end of the transaction. sqlx sends
//! "prepare" and "execute" apart, so without a transaction around both, the second could reach a server that never saw the first;
//! and a statement with a name would stay behind, to collide with that of the next client.

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Either, Error, Execute, Executor, PgPool, Postgres, SqlStr};

use crate::Pooler;

/// A pool of connections that knows what stands between it and the server. An executor of sqlx.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    pool: PgPool,
    pooler: Pooler,
}

impl Connections {
    pub(crate) fn new(pool: PgPool, pooler: Pooler) -> Self {
        Self { pool, pooler }
    }

    /// Closes every connection; calls in flight end first.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

impl<'p> Executor<'p> for &'_ Connections {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.pool.clone();
        match self.pooler {
            Pooler::None => (&pool).fetch_many(query),
            Pooler::Transaction => stream::once(async move {
                let mut transaction = pool.begin().await?;
                let rows: Vec<_> =
                    (&mut *transaction).fetch_many(Unnamed(query)).try_collect().await?;
                transaction.commit().await?;
                Ok::<_, Error>(stream::iter(rows.into_iter().map(Ok)))
            })
            .try_flatten()
            .boxed(),
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.pool.clone();
        match self.pooler {
            Pooler::None => (&pool).fetch_optional(query),
            Pooler::Transaction => Box::pin(async move {
                let mut transaction = pool.begin().await?;
                let row = (&mut *transaction).fetch_optional(Unnamed(query)).await?;
                transaction.commit().await?;
                Ok(row)
            }),
        }
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'p: 'e,
    {
        let pool = self.pool.clone();
        Box::pin(async move { (&pool).prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<sqlx::Describe<Postgres>, Error>> {
        let pool = self.pool.clone();
        Box::pin(async move { (&pool).describe(sql).await })
    }
}

/// A query whose statement gets no name and so outlives no call.
struct Unnamed<E>(E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.0.statement()
    }

    fn take_arguments(
        &mut self,
    ) -> Result<Option<sqlx::postgres::PgArguments>, sqlx::error::BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}
