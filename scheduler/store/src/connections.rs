//! The connections that calls run on: as they are, or through a pooler in transaction mode. Each call has a deadline: a server
//! that fails over, or a NAT that forgets a connection, may leave it silent for ever.
//!
//! Such a pooler may give every transaction another server connection, and hands it on at the end of the transaction. sqlx sends
//! "prepare" and "execute" apart, so without a transaction around both, the second could reach a server that never saw the first;
//! and a statement with a name would stay behind, to collide with that of the next client.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{
    Acquire as _, ConnectOptions as _, Either, Error, Execute, Executor, PgConnection, PgPool,
    Postgres, SqlStr,
};

use crate::Pooler;

/// How long closing waits for connections whose server may not answer any more.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long it may take to find out why no connection could be had.
const DIAGNOSIS: Duration = Duration::from_secs(2);

/// A pool of connections that knows what stands between it and the server, and that waits for no answer for ever. An executor of sqlx.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    pool: PgPool,
    pooler: Pooler,
    /// Longest wait for the answer to one call, once there is a connection.
    deadline: Duration,
}

type Answers = Vec<Either<PgQueryResult, PgRow>>;

impl Connections {
    pub(crate) fn new(pool: PgPool, pooler: Pooler, deadline: Duration) -> Self {
        Self { pool, pooler, deadline }
    }

    /// Opens one connection, to fail early.
    pub(crate) async fn reach(&self) -> Result<(), Error> {
        Lent::from(self).await.map(Lent::give_back)
    }

    /// Closes every connection; calls in flight end first, unless their server has gone silent.
    pub(crate) async fn close(&self) {
        if tokio::time::timeout(GOODBYE, self.pool.close()).await.is_err() {
            tracing::debug!("connections to a silent database are left to the system");
        }
    }

    /// Runs a query and reads its whole answer within the deadline.
    async fn call<'q>(&self, query: impl Execute<'q, Postgres> + 'q) -> Result<Answers, Error> {
        let mut lent = Lent::from(self).await?;
        let answered = tokio::time::timeout(self.deadline, async {
            match self.pooler {
                Pooler::None => lent.connection().fetch_many(query).try_collect().await,
                Pooler::Transaction => {
                    let mut transaction = lent.connection().begin().await?;
                    let answers = transaction.fetch_many(Unnamed(query)).try_collect().await?;
                    transaction.commit().await?;
                    Ok(answers)
                }
            }
        })
        .await;
        // A call that was refused leaves a sound connection; one that broke or got no answer does not.
        match answered {
            Ok(answers @ (Ok(_) | Err(Error::Database(_)))) => {
                lent.give_back();
                answers
            }
            Ok(broken) => broken,
            Err(_) => Err(no_answer(self.deadline)),
        }
    }
}

/// What a server is that says nothing.
pub(crate) fn no_answer(within: Duration) -> Error {
    let words = format!("no answer within {} s", within.as_secs_f32());
    Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, words))
}

/// A connection out of the pool. Unless it is given back, it is cut: the pool would wait for the answer that did not come.
struct Lent(Option<PoolConnection<Postgres>>);

impl Lent {
    async fn from(connections: &Connections) -> Result<Self, Error> {
        match connections.pool.acquire().await {
            Ok(connection) => Ok(Self(Some(connection))),
            Err(Error::PoolTimedOut) => Err(cause(&connections.pool).await),
            Err(error) => Err(error),
        }
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("a connection is lent until it is given back")
    }

    fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // Dropping it closes the socket; nothing is sent, nobody is waited for.
            drop(connection.detach());
        }
    }
}

/// Why no connection could be had in time: what a new one meets, which the pool kept for itself.
async fn cause(pool: &PgPool) -> Error {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    let told = |kind, words: String| Error::Io(std::io::Error::new(kind, words));
    match tokio::time::timeout(DIAGNOSIS, options.connect()).await {
        Ok(Err(error)) => error,
        Ok(Ok(connection)) => {
            drop(connection);
            let limit = pool.options().get_max_connections();
            told(
                std::io::ErrorKind::WouldBlock,
                format!("all {limit} connections of this process are busy"),
            )
        }
        Err(_) => told(
            std::io::ErrorKind::TimedOut,
            format!("{}:{} does not answer", options.get_host(), options.get_port()),
        ),
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
        let connections = self.clone();
        stream::once(async move {
            let answers = connections.call(query).await?;
            Ok::<_, Error>(stream::iter(answers.into_iter().map(Ok)))
        })
        .try_flatten()
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        E: 'q + Execute<'q, Postgres>,
    {
        let connections = self.clone();
        Box::pin(async move {
            let answers = connections.call(query).await?;
            Ok(answers.into_iter().find_map(Either::right))
        })
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
