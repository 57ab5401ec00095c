//! Which user runs the server. PostgreSQL refuses root, so as root an unprivileged user is needed, and that user must be able to reach the cluster.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::acl;
use crate::Error;
use crate::files::own_uid;

/// A user other than ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user to run the server as; none means ourselves.
pub(super) fn choose(cluster: &Path) -> Result<Option<User>, Error> {
    let uid = own_uid()?;
    let owner = std::fs::metadata(cluster).ok().map(|metadata| (metadata.uid(), metadata.gid()));
    if uid != 0 {
        return match owner {
            Some((owner, _)) if owner != uid => {
                Err(Error::ForeignOwner { cluster: cluster.to_path_buf(), owner, uid })
            }
            _ => Ok(None),
        };
    }
    let passwd = std::fs::read_to_string("/etc/passwd").map_err(Error::io("read /etc/passwd"))?;
    // A cluster that exists keeps its owner: the server refuses a folder of anybody else.
    if let Some((uid, gid)) = owner
        && uid != 0
    {
        let name = users(&passwd)
            .find(|user| user.uid == uid)
            .map_or_else(|| uid.to_string(), |user| user.name);
        return Ok(Some(User { name, uid, gid }));
    }
    ["postgres", "nobody"]
        .iter()
        .find_map(|name| users(&passwd).find(|user| user.name == *name && user.uid != 0))
        .map(Some)
        .ok_or(Error::NoUnprivilegedUser)
}

/// Makes sure that `user` can pass through `folder` and everything above it.
pub(super) fn let_through(folder: &Path, user: &User) -> Result<(), Error> {
    for above in folder.ancestors() {
        let metadata =
            std::fs::metadata(above).map_err(Error::io(format!("look at {}", above.display())))?;
        let mode = metadata.permissions().mode();
        // A user is judged by the first class it falls into, as the kernel does.
        let open = if metadata.uid() == user.uid {
            mode & 0o100 != 0
        } else if metadata.gid() == user.gid {
            mode & 0o010 != 0
        } else {
            mode & 0o001 != 0
        };
        if open {
            continue;
        }
        acl::allow_passing(above, user.uid).map_err(|_| Error::NotTraversable {
            folder: above.to_path_buf(),
            user: user.name.clone(),
        })?;
        tracing::debug!(folder = %above.display(), user = %user.name, "let the database's user pass through a closed folder");
    }
    Ok(())
}

fn users(passwd: &str) -> impl Iterator<Item = User> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(User { name, uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_passwd_lines_and_skips_what_is_none() {
        let text = "root:x:0:0:root:/root:/bin/bash\n# note\n+::::::\npostgres:x:101:104:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n";
        let found: Vec<User> = users(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], User { name: "postgres".into(), uid: 101, gid: 104 });
    }
}
