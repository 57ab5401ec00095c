//! One access control entry: lets one user pass through a closed folder, without opening it to anybody else.
//!
//! The attribute's layout is Linux's `posix_acl_xattr.h`: a version, then entries of tag, permissions and id, all little endian.

use std::io;
use std::path::Path;

const ATTRIBUTE: &std::ffi::CStr = c"system.posix_acl_access";
const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const EXECUTE: u16 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// Gives user `uid` execute (pass through) permission on `folder`; every other permission stays as it is.
pub(super) fn allow_passing(folder: &Path, uid: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let entries = match read(folder)? {
        Some(bytes) => decode(&bytes)
            .ok_or_else(|| io::Error::other("an access control list of an unknown form"))?,
        None => from_mode(std::fs::metadata(folder)?.permissions().mode()),
    };
    write(folder, &encode(&with_passing(entries, uid)))
}

/// The list that says the same as the mode bits.
fn from_mode(mode: u32) -> Vec<Entry> {
    let bits = |shift: u32| u16::try_from((mode >> shift) & 7).expect("three bits");
    [(USER_OBJ, 6), (GROUP_OBJ, 3), (OTHER, 0)]
        .map(|(tag, shift)| Entry { tag, permissions: bits(shift), id: NO_ID })
        .to_vec()
}

/// `entries` plus the permission. The mask limits all named entries and the group, so it must allow execution without letting the group gain any.
fn with_passing(mut entries: Vec<Entry>, uid: u32) -> Vec<Entry> {
    let mask = entries.iter().find(|entry| entry.tag == MASK).map(|entry| entry.permissions);
    if let Some(mask) = mask {
        for entry in
            entries.iter_mut().filter(|entry| [USER, GROUP_OBJ, GROUP].contains(&entry.tag))
        {
            entry.permissions &= mask;
        }
    }
    match entries.iter_mut().find(|entry| entry.tag == USER && entry.id == uid) {
        Some(entry) => entry.permissions |= EXECUTE,
        None => entries.push(Entry { tag: USER, permissions: EXECUTE, id: uid }),
    }
    entries.retain(|entry| entry.tag != MASK);
    let union = entries
        .iter()
        .filter(|entry| [USER, GROUP_OBJ, GROUP].contains(&entry.tag))
        .fold(0, |all, entry| all | entry.permissions);
    entries.push(Entry { tag: MASK, permissions: union, id: NO_ID });
    // The kernel wants them ordered by tag, then id.
    entries.sort_by_key(|entry| (entry.tag, entry.id));
    entries
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend(entry.tag.to_le_bytes());
        bytes.extend(entry.permissions.to_le_bytes());
        bytes.extend(entry.id.to_le_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Vec<Entry>> {
    let rest = bytes.strip_prefix(&VERSION.to_le_bytes())?;
    if rest.len() % 8 != 0 {
        return None;
    }
    Some(
        rest.chunks_exact(8)
            .map(|c| Entry {
                tag: u16::from_le_bytes([c[0], c[1]]),
                permissions: u16::from_le_bytes([c[2], c[3]]),
                id: u32::from_le_bytes([c[4], c[5], c[6], c[7]]),
            })
            .collect(),
    )
}

#[cfg(target_os = "linux")]
fn path_c(path: &Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no access to extended attributes")]
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let path = path_c(path)?;
    let mut buffer = vec![0_u8; 8192];
    // SAFETY: both strings end in NUL, and the buffer is as long as stated and lives through the call.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), ATTRIBUTE.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    };
    if length < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENODATA) { Ok(None) } else { Err(error) };
    }
    buffer.truncate(usize::try_from(length).expect("not negative"));
    Ok(Some(buffer))
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no access to extended attributes")]
fn write(path: &Path, value: &[u8]) -> io::Result<()> {
    let path = path_c(path)?;
    // SAFETY: both strings end in NUL, and the value is as long as stated and lives through the call.
    let status = unsafe {
        libc::setxattr(path.as_ptr(), ATTRIBUTE.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
fn read(_: &Path) -> io::Result<Option<Vec<u8>>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn write(_: &Path, _: &[u8]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_user_gains_and_only_passing() {
        let list = with_passing(from_mode(0o40700), 101);
        assert_eq!(
            list,
            [
                Entry { tag: USER_OBJ, permissions: 7, id: NO_ID },
                Entry { tag: USER, permissions: 1, id: 101 },
                Entry { tag: GROUP_OBJ, permissions: 0, id: NO_ID },
                Entry { tag: MASK, permissions: 1, id: NO_ID },
                Entry { tag: OTHER, permissions: 0, id: NO_ID },
            ]
        );
        assert_eq!(decode(&encode(&list)), Some(list.clone()));
        assert_eq!(with_passing(list.clone(), 101), list, "a second time changes nothing");
    }

    #[test]
    fn a_widened_mask_gives_the_group_nothing() {
        let masked = vec![
            Entry { tag: USER_OBJ, permissions: 7, id: NO_ID },
            Entry { tag: USER, permissions: 7, id: 7 },
            Entry { tag: GROUP_OBJ, permissions: 5, id: NO_ID },
            Entry { tag: MASK, permissions: 0, id: NO_ID },
            Entry { tag: OTHER, permissions: 0, id: NO_ID },
        ];
        let list = with_passing(masked, 101);
        let effective =
            |tag, id| list.iter().find(|e| e.tag == tag && e.id == id).map(|e| e.permissions);
        assert_eq!(effective(USER, 7), Some(0));
        assert_eq!(effective(GROUP_OBJ, NO_ID), Some(0));
        assert_eq!(effective(USER, 101), Some(1));
        assert_eq!(effective(MASK, NO_ID), Some(1));
    }
}
