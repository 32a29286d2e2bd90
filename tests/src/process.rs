use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// A service in a process of its own, on a loopback port. Killed when dropped.
pub struct Process {
    name: &'static str,
    address: SocketAddr,
    metrics: SocketAddr,
    arguments: Vec<String>,
    child: Child,
}

impl Process {
    /// Starts `easel-<name>` with `arguments` on free ports.
    pub fn start(name: &'static str, arguments: Vec<String>) -> Self {
        let (address, metrics) = (free_address(), free_address());
        let child = spawn(name, address, metrics, &arguments);
        Self { name, address, metrics, arguments, child }
    }

    /// The service's name, "sampler" for example.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it serves, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns once its health is SERVING.
    pub async fn ready(&mut self) {
        let channel = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("easel-{} ended with {status}", self.name);
            }
            match Endpoint::from_shared(self.url()).unwrap().connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        let mut health = HealthClient::new(channel);
        let mut states = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        while let Some(state) = states.message().await.unwrap() {
            if state.status() == ServingStatus::Serving {
                return;
            }
        }
        panic!("easel-{} closed its health stream before it was ready", self.name);
    }

    /// What Prometheus would scrape.
    pub fn metrics(&self) -> String {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(self.metrics).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: easel\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    /// The value of a metric's first series whose line begins with `name` and contains all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let text = self.metrics();
        let series = |line: &&str| line.starts_with(name) && labels.iter().all(|l| line.contains(l));
        text.lines().find(series)?.rsplit(' ').next()?.parse().ok()
    }

    /// Asks it to stop (SIGTERM).
    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Stops it without asking (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again, at the same address with the same arguments.
    pub fn restart(&mut self) {
        self.child = spawn(self.name, self.address, self.metrics, &self.arguments);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(name: &str, address: SocketAddr, metrics: SocketAddr, arguments: &[String]) -> Child {
    let binary = binary(name);
    Command::new(&binary)
        .args(["--listen", &address.to_string(), "--metrics-listen", &metrics.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|e| {
            panic!("{}: {e}; the tests need `cargo build --workspace --bins` (make test)", binary.display())
        })
}

/// The service's binary, beside the folder of the test's own.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join(format!("easel-{name}"))
}

/// A loopback address that was free a moment ago. Its port is below those that the system gives to outgoing connections, which would take it meanwhile.
fn free_address() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(64);
    loop {
        let port = 20_000 + first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
