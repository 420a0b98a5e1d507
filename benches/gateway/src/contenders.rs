//! The columns of the table: how each contender is configured and started.
//!
//! Owns their files, all below one folder. Every proxy has two threads, as mlxsupd does, keeps its connections to the
//! engine where it can, writes no access log unless that cannot be turned off, and hands on what it reads at once.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::clients::Place;
use crate::load::until_served;
use crate::processes::Program;

/// Until a contender answers its first request.
const START: Duration = Duration::from_secs(30);

/// One column.
#[derive(Debug)]
pub struct Contender {
    /// Its heading.
    pub name: &'static str,
    /// Over the Unix socket.
    pub unix: Place,
    /// Over TCP.
    pub tcp: Place,
    /// The processes that count as its cost; none for the engine itself.
    pub pids: Vec<u32>,
    _program: Program,
}

/// Where everything of a run lies.
#[derive(Debug)]
pub struct Bench {
    dir: PathBuf,
    /// This very program, in its other roles.
    pub own: PathBuf,
    daemon: PathBuf,
}

impl Bench {
    /// An empty folder beside the programs.
    pub fn new() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let beside = own.parent().unwrap_or(Path::new("."));
        let daemon = std::env::var_os("BENCH_DAEMON").map_or_else(|| beside.join("mlxsupd"), PathBuf::from);
        let dir = beside.parent().unwrap_or(beside).join("bench");
        // The length of a socket's path is limited; whatever lies too deep is told now.
        if dir.as_os_str().len() > 70 {
            let message = format!("{} is too long a path for sockets; set CARGO_TARGET_DIR", dir.display());
            return Err(io::Error::other(message));
        }
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, own, daemon })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// All contenders, each once it answers. Those whose program is not there are left out, with a word.
    pub async fn start(&self, wants: impl Fn(&str) -> bool) -> io::Result<(Vec<Contender>, Vec<String>)> {
        let engine = self.engine().await?;
        let mut all = vec![engine];
        let mut missing = Vec::new();
        if wants("mlxsupd") {
            all.push(self.mlxsupd("mlxsupd", &self.native(), "").await?);
        }
        if wants("openai") {
            let command =
                format!("engine = \"openai\"\ncommand = [{:?}, \"mock\", \"--socket\", \"{{socket}}\"]", self.own);
            all.push(self.mlxsupd("openai", &command, "").await?);
        }
        if wants("nginx") {
            match program("nginx") {
                Some(nginx) => all.push(self.nginx(&nginx).await?),
                None => missing.push("nginx is not installed: apt-get install nginx".to_owned()),
            }
        }
        if wants("haproxy") {
            match program("haproxy") {
                Some(haproxy) => all.push(self.haproxy(&haproxy).await?),
                None => missing.push("HAProxy is not installed: apt-get install haproxy".to_owned()),
            }
        }
        if wants("hyper") {
            let (socket, port) = (self.path("hyper.sock"), free_port()?);
            let mut command = Command::new(&self.own);
            command.arg("proxy").arg(&socket).arg(port.to_string()).arg(self.path("mock.sock"));
            all.push(self.begin("hyper", &mut command, socket, port, false).await?);
        }
        Ok((all, missing))
    }

    /// `worker.…` of a native worker.
    pub fn native(&self) -> String {
        format!("command = [{:?}, \"mock\"]", self.own)
    }

    async fn engine(&self) -> io::Result<Contender> {
        let (socket, port) = (self.path("mock.sock"), free_port()?);
        let mut command = Command::new(&self.own);
        command.args(["mock", "--port", &port.to_string(), "--socket"]).arg(&socket);
        let mut engine = self.begin("direct", &mut command, socket, port, false).await?;
        engine.pids.clear();
        Ok(engine)
    }

    /// A daemon in a home of its own.
    pub async fn mlxsupd(&self, name: &'static str, worker: &str, rest: &str) -> io::Result<Contender> {
        let (home, port) = (self.path(name), free_port()?);
        fs::create_dir_all(&home)?;
        let slots = if rest.contains("[queue]") { 1 } else { 128 };
        let text = format!(
            "[listen]\ntcp = \"127.0.0.1:{port}\"\napi_key_file = \"none\"\n\n\
             [worker]\nmodel = \"mock\"\nslots = {slots}\nkeep_awake = \"off\"\n{worker}\n\n{rest}"
        );
        fs::write(home.join("mlxsup.toml"), text)?;
        let mut command = Command::new(&self.daemon);
        command.arg("--home").arg(&home);
        self.begin(name, &mut command, home.join("mlxsup.sock"), port, false).await
    }

    async fn nginx(&self, program: &Path) -> io::Result<Contender> {
        let (socket, port, dir) = (self.path("nginx.sock"), free_port()?, self.dir.display());
        // A worker of the superuser's nginx would become somebody who cannot reach these sockets.
        let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
        let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|what| format!("    {what}_temp_path {dir}/nginx-{what};\n"))
            .collect();
        let text = format!(
            "{user}worker_processes 2;\ndaemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx-error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n    access_log off;\n{places}\
             \x20   upstream engine {{ server unix:{dir}/mock.sock; keepalive 128; keepalive_requests 1000000000; }}\n\
             \x20   keepalive_requests 1000000000;\n\
             \x20   server {{\n        listen unix:{};\n        listen 127.0.0.1:{port};\n\
             \x20       location / {{\n            proxy_pass http://engine;\n            proxy_http_version 1.1;\n\
             \x20           proxy_set_header Connection \"\";\n            proxy_buffering off;\n        }}\n    }}\n}}\n",
            socket.display()
        );
        let file = self.path("nginx.conf");
        fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&self.dir).arg("-e").arg(self.path("nginx-error.log")).arg("-c").arg(file);
        self.begin("nginx", &mut command, socket, port, true).await
    }

    async fn haproxy(&self, program: &Path) -> io::Result<Contender> {
        let (socket, port) = (self.path("haproxy.sock"), free_port()?);
        let text = format!(
            "global\n    nbthread 2\n    maxconn 1000\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
             \x20   http-reuse always\n    option http-no-delay\n\
             frontend clients\n    bind unix@{} mode 600\n    bind 127.0.0.1:{port}\n    default_backend engine\n\
             backend engine\n    server mock unix@{}/mock.sock\n",
            socket.display(),
            self.dir.display()
        );
        let file = self.path("haproxy.cfg");
        fs::write(&file, text)?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(file);
        self.begin("haproxy", &mut command, socket, port, false).await
    }

    async fn begin(
        &self,
        name: &'static str,
        command: &mut Command,
        socket: PathBuf,
        port: u16,
        children: bool,
    ) -> io::Result<Contender> {
        let log = self.path(&format!("{name}.log"));
        let program = Program::start(command, &log)?;
        let (unix, tcp) = (Place::Unix(socket), Place::Tcp(port));
        for place in [&unix, &tcp] {
            until_served(place, START).await.map_err(|why| {
                let words = fs::read_to_string(&log).unwrap_or_default();
                io::Error::other(format!("{name} does not serve: {why}\n{words}"))
            })?;
        }
        let pids = program.family(children);
        Ok(Contender { name, unix, tcp, pids, _program: program })
    }
}

/// A port that nobody has; whoever comes first gets it, which on a quiet machine is who asked.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Where a program lies; system programs are not on everybody's path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")];
    std::env::split_paths(&path).chain(usual).map(|dir| dir.join(name)).find(|file| file.is_file())
}
