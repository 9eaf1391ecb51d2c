//! Where a cluster's files may lie, and as whom its server runs.

use std::env;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The operating system's user that the server runs as when the caller is root.
const SERVER_USER: &str = "postgres";

/// The longest path that fits into a `sockaddr_un` with its terminating zero.
const SOCKET_PATH_LIMIT: usize = 107;

/// The operating system's user that runs the server programs.
#[derive(Clone, Debug)]
pub(crate) enum ServerUser {
    /// Whoever runs us.
    Caller { uid: u32 },
    /// We are root, which PostgreSQL refuses: the user `postgres`, through `runuser`.
    Other { uid: u32, gid: u32 },
}

impl ServerUser {
    pub(crate) fn find() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Self::Caller { uid });
        }
        let ask = |option: &str| -> Result<u32> {
            let output = Command::new("id")
                .args([option, SERVER_USER])
                .output()
                .context("cannot run id")?;
            String::from_utf8_lossy(&output.stdout)
                .trim()
                .parse()
                .with_context(|| {
                    format!(
                        "PostgreSQL does not run as root, and there is no user \"{SERVER_USER}\""
                    )
                })
        };
        Ok(Self::Other {
            uid: ask("-u")?,
            gid: ask("-g")?,
        })
    }

    /// A command that runs `program` as this user. Its working folder is the root folder, which everyone can enter.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = match self {
            Self::Caller { .. } => Command::new(program),
            Self::Other { .. } => {
                let mut command = Command::new("runuser");
                command.args(["-u", SERVER_USER, "--"]).arg(program);
                command
            }
        };
        command.current_dir("/");
        command
    }

    fn uid(&self) -> u32 {
        match self {
            Self::Caller { uid } | Self::Other { uid, .. } => *uid,
        }
    }

    /// Makes `folder` exist, private to this user; an error if it belongs to somebody else.
    pub(crate) fn own_folder(&self, folder: &Path) -> Result<()> {
        make_folder(folder, 0o700)?;
        if let Self::Other { uid, gid } = self
            && fs::symlink_metadata(folder)?.uid() == 0
        {
            chown(folder, Some(*uid), Some(*gid))
                .with_context(|| format!("cannot give {} to {SERVER_USER}", folder.display()))?;
        }
        let metadata = fs::symlink_metadata(folder)?;
        if !metadata.is_dir() || metadata.uid() != self.uid() {
            bail!(
                "{} belongs to another user; remove it first",
                folder.display()
            );
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    fn can_enter(&self, folder: &Path) -> bool {
        self.command(Path::new("test"))
            .arg("-x")
            .arg(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// The folder that holds all clusters of this checkout.
pub(crate) fn clusters_folder(user: &ServerUser) -> Result<PathBuf> {
    let wanted = target_folder().join("clusters");
    if make_folder(&wanted, 0o755).is_ok() && user.can_enter(&wanted) {
        return Ok(wanted);
    }
    let checkout = checkout_folder();
    let folder = env::temp_dir().join(format!("pgqc-clusters-{}", short_hash(checkout)));
    make_folder(&folder, 0o755)?;
    let metadata = fs::symlink_metadata(&folder)?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        bail!(
            "{} belongs to another user; remove it first",
            folder.display()
        );
    }
    if !user.can_enter(&folder) {
        bail!(
            "user \"{SERVER_USER}\" can enter neither {} nor {}",
            wanted.display(),
            folder.display()
        );
    }
    Ok(folder)
}

/// A short folder for the socket of the server whose data is in `data`.
pub(crate) fn socket_folder(data: &Path) -> PathBuf {
    let name = format!("pgqc-{}", short_hash(data));
    // The longest file in it is the lock file of a five-digit port.
    let fits = |folder: &Path| {
        folder.as_os_str().len() + "/.s.PGSQL.65535.lock".len() <= SOCKET_PATH_LIMIT
    };
    let folder = env::temp_dir().join(&name);
    if fits(&folder) {
        folder
    } else {
        Path::new("/tmp").join(name)
    }
}

/// The build folder: `$CARGO_TARGET_DIR`, or the one that the running program was built into, or `target`.
fn target_folder() -> PathBuf {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
        return checkout_folder().join(folder);
    }
    let program = env::current_exe().unwrap_or_default();
    let tagged = program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists());
    tagged.map_or_else(|| checkout_folder().join("target"), Path::to_owned)
}

/// The root of the workspace that this crate was compiled in.
fn checkout_folder() -> &'static Path {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_folder.ancestors().nth(2).unwrap_or(crate_folder)
}

fn make_folder(folder: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))
}

fn short_hash(path: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    path.as_os_str().as_bytes().hash(&mut hasher);
    format!("{:010x}", hasher.finish() >> 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_are_short_however_deep_the_data_is() {
        let data = Path::new("/").join("deep/".repeat(60));
        let socket = socket_folder(&data).join(".s.PGSQL.65535.lock");
        assert!(socket.as_os_str().len() <= SOCKET_PATH_LIMIT);
    }

    #[test]
    fn different_clusters_get_different_sockets() {
        assert_ne!(
            socket_folder(Path::new("/a/data")),
            socket_folder(Path::new("/b/data"))
        );
    }
}
