//! Who runs a system service, and the home that account gets.

use std::fs::Permissions;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{Gid, Uid, chown};

use crate::ctl::failure::{Failure, Kind};
use crate::service::Owner;

/// The account that runs a system service: named, else whoever called sudo; never root.
pub fn owner(user: Option<&str>) -> Result<Owner, Failure> {
    let named = user.map(str::to_owned).or_else(|| std::env::var("SUDO_USER").ok());
    let usage = |message: &str| Failure::new(Kind::Usage, message).hint("name an account with --user NAME");
    let name = named.ok_or_else(|| usage("a system service runs as a named account"))?;
    let account = nix::unistd::User::from_name(&name)
        .map_err(|error| Failure::new(Kind::Internal, format!("cannot look up the account `{name}`")).caused_by(error))?
        .ok_or_else(|| usage(&format!("there is no account `{name}`")))?;
    if account.uid.is_root() {
        return Err(usage("a system service never runs as root"));
    }
    Ok(Owner { user: name, group: None, uid: account.uid.as_raw(), gid: account.gid.as_raw() })
}

/// Makes the home of a system service where it is missing: private, and the account's own. What is there already is only
/// judged: a folder that somebody else owns is not taken from them.
pub fn make_home(root: &Path, owner: &Owner) -> Result<(), Failure> {
    let failed = |doing: &str, source: std::io::Error| {
        Failure::new(Kind::Internal, format!("cannot {doing} `{}`", root.display())).caused_by(source)
    };
    if let Some(above) = root.parent() {
        std::fs::create_dir_all(above).map_err(|source| failed("make the folder of", source))?;
    }
    for folder in [root.to_owned(), root.join("logs")] {
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => {
                std::fs::set_permissions(&folder, Permissions::from_mode(0o700))
                    .map_err(|source| failed("close", source))?;
                chown(&folder, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
                    .map_err(|errno| failed("give away", errno.into()))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed("make", error)),
        }
        let found = std::fs::metadata(&folder).map_err(|source| failed("look at", source))?;
        if !found.is_dir() || found.uid() != owner.uid {
            let message = format!("`{}` does not belong to {}", folder.display(), owner.user);
            return Err(Failure::new(Kind::Usage, message).hint(format!(
                "give it away: `chown -R {} {}`, or name another account",
                owner.user,
                root.display()
            )));
        }
    }
    Ok(())
}

/// The daemon reads its configuration as the account, not as root.
pub fn judge_config(file: &Path, owner: &Owner) -> Result<(), Failure> {
    let Ok(found) = std::fs::metadata(file) else { return Ok(()) };
    let readable = match (found.uid() == owner.uid, found.gid() == owner.gid) {
        (true, _) => 0o400,
        (false, true) => 0o040,
        (false, false) => 0o004,
    };
    if found.mode() & readable != 0 {
        return Ok(());
    }
    let shown = file.display();
    Err(Failure::new(Kind::Configuration, format!("{} cannot read `{shown}`", owner.user))
        .hint(format!("give it away: `chown {} {shown}`", owner.user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> Owner {
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Owner { user: "ann".to_owned(), group: None, uid, gid }
    }

    #[test]
    fn a_home_is_made_private_and_a_foreign_one_is_left_alone() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("var/mlxsup");
        make_home(&root, &us()).unwrap();
        assert_eq!(std::fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
        make_home(&root, &us()).unwrap();
        let other = Owner { uid: us().uid + 1, ..us() };
        assert_eq!(make_home(&root, &other).unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn a_configuration_the_account_cannot_read_is_told_before() {
        let outer = tempfile::tempdir().unwrap();
        let file = outer.path().join("mlxsup.toml");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        judge_config(&file, &us()).unwrap();
        let other = Owner { uid: us().uid + 1, gid: us().gid + 1, ..us() };
        assert_eq!(judge_config(&file, &other).unwrap_err().kind(), Kind::Configuration);
        std::fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
        judge_config(&file, &other).unwrap();
    }
}
