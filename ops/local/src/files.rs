//! Small files and folders that both servers keep: secrets, locks, and their permissions.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rand::TryRngCore;

use crate::Error;

/// Makes `folder` and its missing parents, or takes one that is there and that nobody else could have prepared: what lies in it is
/// obeyed (`env` is sourced, passwords are read). Others may pass through what is made here but not list it: the database's user has to reach its
/// part.
///
/// # Errors
/// [`Error::ForeignFolder`] when it is another user's or others may write into it, [`Error::Io`].
pub fn make_folder(folder: &Path) -> Result<(), Error> {
    let wrap = || Error::io(format!("make the folder {}", folder.display()));
    DirBuilder::new().recursive(true).mode(0o711).create(folder).map_err(wrap())?;
    let metadata = std::fs::metadata(folder).map_err(wrap())?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o777);
    if owner == own_uid()? && mode & 0o022 == 0 {
        return Ok(());
    }
    Err(Error::ForeignFolder { folder: folder.to_path_buf(), owner, mode })
}

/// The user that this process runs as.
pub(crate) fn own_uid() -> Result<u32, Error> {
    // The owner of a file we make: without a call into libc.
    let probe = tempfile::tempfile().map_err(Error::io("make a temporary file"))?;
    Ok(probe.metadata().map_err(Error::io("look at a temporary file"))?.uid())
}

/// Reads the secret in `path`; when there is none yet, draws one of `chars` hexadecimal characters and keeps it there, readable by its owner only.
pub(crate) fn secret(path: &Path, chars: usize) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().len() == chars => return Ok(text.trim().to_owned()),
        // Of another length: the file of a process killed while it wrote, before anything could use it.
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
    }
    let fresh = random_hex(chars)?;
    write_private(path, fresh.as_bytes())?;
    Ok(fresh)
}

/// `chars` random hexadecimal characters from the operating system.
pub(crate) fn random_hex(chars: usize) -> Result<String, Error> {
    let mut bytes = vec![0_u8; chars.div_ceil(2)];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|error| {
        Error::io("draw random bytes")(std::io::Error::other(error.to_string()))
    })?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(chars);
    Ok(text)
}

/// Writes a file of mode 0600 so that it is there whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let wrap = || Error::io(format!("write {}", path.display()));
    let part = path.with_extension("part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(wrap())?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(wrap())?;
    file.write_all(bytes).map_err(wrap())?;
    file.sync_all().map_err(wrap())?;
    std::fs::rename(&part, path).map_err(wrap())
}

/// Takes the exclusive lock of `folder`, held until the file is dropped or the process ends, however it ends.
///
/// # Errors
/// [`Error::AlreadyRunning`] when another process (or another server of this one) holds it.
pub(crate) fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let wrap = || Error::io(format!("lock {}", path.display()));
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(wrap())?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            return Err(Error::AlreadyRunning { data: folder.to_path_buf(), pid });
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(wrap()(error)),
    }
    file.set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
        .map_err(wrap())?;
    Ok(file)
}
