//! What is private on this machine: keys in files, values of the configuration, names of people and of the machine.
//!
//! Reading and guessing are apart: [`secrets_in`] and [`keys_in`] work on any text, however broken.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};

use super::redact::Private;
use crate::config::{ApiKeyFile, Config, looks_secret};

/// Looks for everything private around this home.
#[must_use]
pub fn gather(home: &Path, config: Option<&Config>) -> Private {
    let mut private = Private::default();
    for file in ["mlxsup.toml", "mlxsup.last-good.toml"] {
        let text = std::fs::read_to_string(home.join(file)).unwrap_or_default();
        private.secrets.extend(secrets_in(&text));
    }
    let mut key_files = vec![home.join("api.key")];
    if let Some(config) = config {
        private.secrets.extend(config.worker.env.values().cloned());
        if let Some(ApiKeyFile::Path(path)) = &config.listen.api_key_file {
            key_files.push(home.join(path));
        }
    }
    for file in key_files {
        private.secrets.extend(keys_in(&std::fs::read_to_string(file).unwrap_or_default()));
    }
    private.homes = spellings(home);
    let account = User::from_uid(Uid::effective()).ok().flatten();
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let folders = set("HOME").map(PathBuf::from).into_iter().chain(account.as_ref().map(|account| account.dir.clone()));
    private.user_homes = folders.flat_map(|folder| spellings(&folder)).collect();
    private.users = ["USER", "LOGNAME", "SUDO_USER"].iter().filter_map(|name| set(name)).collect();
    private.users.extend(account.map(|account| account.name));
    let owner = std::fs::metadata(home).ok().map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    private.users.extend(owner.and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten()).map(|user| user.name));
    if let Some(host) = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok()) {
        private.hosts.extend(host.split_once('.').map(|(name, _)| name.to_owned()));
        private.hosts.push(host);
    }
    private
}

/// A folder as it was named and as it really is.
fn spellings(folder: &Path) -> Vec<String> {
    let real = folder.canonicalize().ok();
    let named = std::path::absolute(folder).ok();
    named.into_iter().chain(real).map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Keys of a key file: the second word of a line, and anything long.
fn keys_in(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let keys = lines.flat_map(|line| {
        line.split_whitespace()
            .enumerate()
            .filter(|(index, word)| *index == 1 || word.len() >= 16)
            .map(|(_, word)| word)
    });
    keys.map(str::to_owned).collect()
}

/// Quoted values that look secret by their key, or by the option before them in a command.
fn secrets_in(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for line in text.lines() {
        let mut option = false;
        let mut last = "";
        for (before, value) in quoted(line) {
            let key = before.trim_end().strip_suffix('=').map(|key| {
                let ident = |letter: char| letter.is_alphanumeric() || "_-".contains(letter);
                // A key may be in quotes itself.
                if key.trim().is_empty() {
                    last
                } else {
                    key.trim_end().rsplit(|letter| !ident(letter)).next().unwrap_or_default()
                }
            });
            last = value;
            let by_key = key.is_some_and(|key| looks_secret(key) && !key.ends_with("_file"));
            if by_key || option {
                secrets.push(value.to_owned());
            }
            let is_option = value.starts_with('-') && looks_secret(value);
            option = is_option && !value.contains('=');
            if let Some((_, given)) = value.split_once('=').filter(|(name, _)| looks_secret(name)) {
                secrets.push(given.to_owned());
            }
        }
    }
    secrets
}

/// Quoted texts of a line, each with what stands before it.
fn quoted(line: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find(['"', '\'']) {
        let mark = &rest[at..=at];
        let inside = &rest[at + 1..];
        let Some(end) = inside.find(mark) else { break };
        found.push((&rest[..at], &inside[..end]));
        rest = &inside[end + 1..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_state_of_the_file() {
        assert_eq!(keys_in("# a comment\nlaptop 4f1ce09a max_class=batch\n"), ["4f1ce09a"]);
        assert_eq!(keys_in("0123456789abcdef0123\n"), ["0123456789abcdef0123"]);
    }

    #[test]
    fn secrets_of_a_configuration_are_found_though_it_be_bad() {
        let text = "[listen]\napi_key_file = \"api.key\"\n[worker]\nmodell = \"m\nenv = { HF_TOKEN = \"hf_x1\", PATH = \
                    \"/bin\", \"API_KEY\" = 'k2' }\ncommand = [\"serve\", \"--api-key\", \"k3\", \"--key=k4\", \"--port\"]\n";
        assert_eq!(secrets_in(text), ["hf_x1", "k2", "k3", "k4"]);
    }

    #[test]
    fn a_home_is_known_by_all_its_paths() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        let spelt = spellings(&link);
        assert_eq!(spelt.len(), 2);
        assert_ne!(spelt[0], spelt[1]);
    }
}
