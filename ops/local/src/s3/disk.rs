//! Buckets and objects as folders and files: find, open, publish, delete.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, RenameOptions, RenameTargetMode};
use s3s::{S3Error, S3ErrorCode, S3Result};
use tokio::sync::{Mutex, MutexGuard};

use super::conditions::{self, Conditions};
use super::error::{blocking, disk, refuse};
use super::keys;
use super::receive::Staged;
use super::sidecar::{Facts, Headers, Sidecars, Version};
use crate::Error;

/// The root folder and what is needed to change it safely. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    own: PathBuf,
    /// Publishes: rename or link, both synced with their folders.
    files: LocalFileSystem,
    /// One lock per stripe of keys: between looking at an object and replacing it no other task may replace it. No other process writes here.
    stripes: Vec<Mutex<()>>,
}

impl Disk {
    pub(super) fn open(root: &Path) -> Result<Self, Error> {
        let own = root.join(keys::OWN_FOLDER);
        let staging = own.join("staging");
        // What a killed server was still receiving.
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(format!("clear {}", staging.display()))(error));
            }
            _ => {}
        }
        crate::files::make_folder(&staging)?;
        crate::files::make_folder(&own.join("uploads"))?;
        let files = LocalFileSystem::new_with_prefix(root).map_err(|error| {
            Error::io(format!("open {}", root.display()))(io::Error::other(error))
        })?;
        let stripes = (0..64).map(|_| Mutex::new(())).collect();
        Ok(Self {
            inner: Arc::new(Inner {
                root: root.to_path_buf(),
                own,
                files: files.with_fsync(true),
                stripes,
            }),
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.inner.root
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.inner.own.join("staging")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.inner.own.join("uploads")
    }

    pub(super) fn sidecars(&self, bucket: &str) -> Sidecars {
        Sidecars::of(&self.inner.own, bucket)
    }

    /// The folder of a bucket that exists.
    pub(super) fn bucket(&self, bucket: &str) -> S3Result<PathBuf> {
        let folder = keys::bucket_folder(self.root(), bucket)?;
        match std::fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => Ok(folder),
            _ => Err(refuse(S3ErrorCode::NoSuchBucket, format!("there is no bucket `{bucket}`"))),
        }
    }

    /// The file of an object that may or may not exist; its bucket does.
    pub(super) fn path(&self, bucket: &str, key: &str) -> S3Result<PathBuf> {
        let folder = self.bucket(bucket)?;
        keys::check(key)?;
        let mut path = folder;
        for part in key.split('/') {
            path.push(part);
            // A link may point anywhere, so that nothing behind one is in the bucket.
            if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
                return Err(refuse(
                    S3ErrorCode::AccessDenied,
                    format!(
                        "{} is a symbolic link, which this store does not follow",
                        path.display()
                    ),
                ));
            }
        }
        Ok(path)
    }

    /// Opens an object: its bytes and its facts are of one version, whatever is published meanwhile.
    pub(super) fn open_object(&self, bucket: &str, key: &str) -> S3Result<(File, Facts)> {
        let path = self.path(bucket, key)?;
        let sidecars = self.sidecars(bucket);
        for _ in 0..100 {
            let file = open_regular(&path)?.ok_or_else(|| no_such_key(key))?;
            let version = Version::of(&file.metadata().map_err(disk("look at an object"))?);
            if let Some(facts) = sidecars.read(key, version) {
                return Ok((file, facts));
            }
            // Either it came by hand, or it was replaced just now and its sidecar went with it.
            let now = std::fs::symlink_metadata(&path).ok().map(|metadata| Version::of(&metadata));
            if now == Some(version) {
                let reader = file.try_clone().map_err(disk("open an object"))?;
                let facts = sidecars.learn(key, reader).map_err(disk("read an object"))?;
                use std::io::Seek;
                let mut file = file;
                file.rewind().map_err(disk("read an object"))?;
                return Ok((file, facts));
            }
        }
        Err(refuse(S3ErrorCode::SlowDown, "the object keeps being replaced"))
    }

    /// ETag of an object, if there is one.
    pub(super) fn etag(&self, bucket: &str, key: &str) -> S3Result<Option<String>> {
        match self.open_object(bucket, key) {
            Ok((_, facts)) => Ok(Some(facts.etag)),
            Err(error) if *error.code() == S3ErrorCode::NoSuchKey => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn stripe(&self, bucket: &str, key: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        (bucket, key).hash(&mut hasher);
        let stripes = &self.inner.stripes;
        let index = usize::try_from(hasher.finish() % stripes.len() as u64)
            .expect("fewer stripes than usize");
        stripes[index].lock().await
    }

    /// Makes staged bytes the object of `key`, if the conditions hold. When this returns, the object is on disk, or nothing has changed.
    pub(super) async fn publish(
        &self,
        bucket: &str,
        key: &str,
        staged: Staged,
        etag: String,
        headers: Headers,
        conditions: &Conditions,
    ) -> S3Result<Facts> {
        let _alone = self.stripe(bucket, key).await;
        let facts = Facts {
            key: key.to_owned(),
            version: staged.version,
            etag,
            sums: staged.sums.clone(),
            headers,
        };
        let (this, conditions_, facts_, bucket_) =
            (self.clone(), conditions.clone(), facts.clone(), bucket.to_owned());
        let old = blocking(move || this.prepare(&bucket_, &facts_, &conditions_)).await?;
        let from = self.location(&staged.path)?;
        let to = location(&format!("{bucket}/{key}"))?;
        let mode = if conditions.create_only() {
            RenameTargetMode::Create
        } else {
            RenameTargetMode::Overwrite
        };
        let renamed = self
            .inner
            .files
            .rename_opts(&from, &to, RenameOptions::new().with_target_mode(mode))
            .await;
        let (this, key_, bucket_) = (self.clone(), key.to_owned(), bucket.to_owned());
        match renamed {
            Ok(()) => {
                if let Some(old) = old.filter(|old| old.inode != facts.version.inode) {
                    blocking(move || this.sidecars(&bucket_).remove(&key_, old.inode)).await;
                }
                drop(staged);
                Ok(facts)
            }
            Err(error) => {
                let inode = facts.version.inode;
                blocking(move || {
                    this.sidecars(&bucket_).remove(&key_, inode);
                    Err(this.explain(&bucket_, &key_, error))
                })
                .await
            }
        }
    }

    /// Checks the conditions and writes the sidecar. Returns the version that is there now.
    fn prepare(
        &self,
        bucket: &str,
        facts: &Facts,
        conditions: &Conditions,
    ) -> S3Result<Option<Version>> {
        let path = self.path(bucket, &facts.key)?;
        let old = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Some(Version::of(&metadata)),
            _ => None,
        };
        if conditions.create_only() && old.is_some() {
            return Err(conditions::failed());
        }
        if conditions.need_etag() {
            conditions.check_write(self.etag(bucket, &facts.key)?.as_deref())?;
        }
        self.sidecars(bucket).write(facts, true).map_err(disk("write an object's metadata"))?;
        Ok(old)
    }

    /// Why publishing failed, in words that help.
    fn explain(&self, bucket: &str, key: &str, error: object_store::Error) -> S3Error {
        if matches!(error, object_store::Error::AlreadyExists { .. }) {
            return match self.path(bucket, key) {
                Ok(path) if path.is_dir() => conflict(key),
                _ => conditions::failed(),
            };
        }
        if let Ok(path) = self.path(bucket, key) {
            let blocked = path
                .ancestors()
                .skip(1)
                .take_while(|above| above.starts_with(self.root()))
                .any(Path::is_file);
            if blocked || path.is_dir() {
                return conflict(key);
            }
        }
        disk("publish an object")(io::Error::other(error))
    }

    /// Deletes an object and the folders that it leaves empty; one that does not exist counts as deleted.
    pub(super) async fn delete(
        &self,
        bucket: &str,
        key: &str,
        conditions: &Conditions,
    ) -> S3Result<()> {
        let _alone = self.stripe(bucket, key).await;
        let (this, bucket, key, conditions) =
            (self.clone(), bucket.to_owned(), key.to_owned(), conditions.clone());
        blocking(move || this.delete_now(&bucket, &key, &conditions)).await
    }

    fn delete_now(&self, bucket: &str, key: &str, conditions: &Conditions) -> S3Result<()> {
        let folder = self.bucket(bucket)?;
        let path = self.path(bucket, key)?;
        if conditions.need_etag() {
            conditions.check_write(self.etag(bucket, key)?.as_deref())?;
        }
        let version = match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Version::of(&metadata),
            _ => return Ok(()),
        };
        std::fs::remove_file(&path).map_err(disk("delete an object"))?;
        let parent = path.parent().expect("an object lies in a folder");
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(disk("sync a folder"))?;
        self.sidecars(bucket).remove(key, version.inode);
        for above in parent.ancestors().take_while(|above| *above != folder) {
            if std::fs::remove_dir(above).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// A path below the root, as the publishing library names it.
    fn location(&self, path: &Path) -> S3Result<object_store::path::Path> {
        let below = path.strip_prefix(self.root()).ok().and_then(Path::to_str);
        location(below.ok_or_else(|| {
            refuse(S3ErrorCode::InternalError, "a staged file is outside the store")
        })?)
    }
}

fn location(path: &str) -> S3Result<object_store::path::Path> {
    object_store::path::Path::parse(path)
        .map_err(|error| refuse(S3ErrorCode::InvalidArgument, error.to_string()))
}

pub(super) fn no_such_key(key: &str) -> S3Error {
    refuse(S3ErrorCode::NoSuchKey, format!("there is no object {key:?}"))
}

fn conflict(key: &str) -> S3Error {
    let message = format!(
        "this store keeps objects as files, so {key:?} cannot be an object while another object is stored below it or where it needs a folder"
    );
    refuse(S3ErrorCode::InvalidRequest, message)
}

/// Opens a regular file; none if there is nothing, or something else.
fn open_regular(path: &Path) -> S3Result<Option<File>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Ok(None),
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(disk("look at an object")(error)),
    }
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(disk("open an object")(error)),
    }
}

/// Nothing there, or a file where a folder would have to be.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
