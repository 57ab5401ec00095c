//! Queries are checked against the prepared data in `.sqlx`, so that a build needs no database and a `DATABASE_URL` in somebody's
//! shell changes nothing. `ops/sqlx-prepare` sets `NIGHTSHIFT_SQLX_PREPARE` to check against a real one and write that data.

fn main() {
    println!("cargo:rerun-if-env-changed=NIGHTSHIFT_SQLX_PREPARE");
    println!("cargo:rerun-if-changed=../../migrations");
    println!("cargo:rerun-if-changed=.sqlx");
    if std::env::var_os("NIGHTSHIFT_SQLX_PREPARE").is_none() {
        println!("cargo:rustc-env=SQLX_OFFLINE=true");
    }
}
