//! Every hostile, broken or odd thing by name, on both kinds of listener: each gets its status, and the daemon goes on.

use std::sync::Arc;

use mlxsup::daemon::handle::{Directive, GatewayInput};
use mlxsup::gateway::Access;
use mlxsup::supervisor::{Code, Refusal};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::harness::{Answer, Client, Gateway};
use crate::hostile_cases::{Case, Fate, all};

/// What is wrong with how a case went.
async fn play<S>(mut gateway: Gateway, mut client: Client<S>, case: &Case, fate: Fate) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let driver = async {
        let submitted = gateway.submitted().await;
        let refusal = Refusal::new(Code::Unloaded, "unloaded");
        submitted.directives.send(Directive::Refused(Box::new(refusal))).await.expect("the session lives");
        // Until the answer is there; other reports are nobody's here.
        std::future::pending::<()>().await;
    };
    let conversation = async {
        client.try_send(&case.sends).await;
        client.try_answer().await
    };
    let answer = tokio::select! {
        () = driver => None,
        answer = conversation => answer,
    };
    let answer = answer.ok_or("closed without an answer")?;
    judge(fate, &answer)?;
    // Whatever came behind the request: it is not answered, and the connection ends sooner or later.
    if !client.is_closed().await {
        return Err("a second answer".to_owned());
    }
    while let Ok(input) = gateway.inputs.try_recv() {
        if fate != Fate::Submitted || !matches!(input, GatewayInput::Report { .. }) {
            return Err(format!("more reached the driver than should: {input:?}"));
        }
    }
    if gateway.get("/health").await.status != 200 {
        return Err("nobody is served afterwards".to_owned());
    }
    Ok(())
}

fn judge(fate: Fate, answer: &Answer) -> Result<(), String> {
    let code = if answer.status == 200 { None } else { Some(answer.code()) };
    let expected = match fate {
        Fate::Answered(status) => (status, None),
        Fate::Refused(status, code) => (status, Some(code)),
        Fate::Submitted => (503, Some("unloaded")),
    };
    if (answer.status, code.as_deref()) != expected {
        return Err(format!("expected {expected:?}, got {} {code:?}: {}", answer.status, answer.body));
    }
    let Some(id) = answer.header("x-request-id") else { return Err("no x-request-id".to_owned()) };
    if id.len() != 32 {
        return Err(format!("an odd id was taken: {id}"));
    }
    if answer.status == 405 && answer.header("allow").is_none() {
        return Err("405 without Allow".to_owned());
    }
    if answer.status != 200 && answer.header("x-should-retry") != Some("false") {
        return Err("nothing says that a retry is of no use".to_owned());
    }
    Ok(())
}

/// A gateway of its own for each: what one leaves behind cannot be another's fault.
fn fresh() -> Gateway {
    let gateway = Gateway::start();
    gateway.access.send_replace(Arc::new(Access::Keyless));
    gateway
}

#[tokio::test(start_paused = true)]
async fn each_gets_its_status_and_the_daemon_goes_on() {
    let cases = all();
    let mut failures = Vec::new();
    for case in &cases {
        let gateway = fresh();
        let client = gateway.connect().await;
        if let Err(why) = play(gateway, client, case, case.fate).await {
            failures.push(format!("{}, on the stable socket: {why}", case.name));
        }
        let gateway = fresh();
        let client = gateway.connect_tcp().await;
        let names_another_host = Fate::Refused(403, "origin_not_allowed");
        let fate = if case.names_another_host { names_another_host } else { case.fate };
        if let Err(why) = play(gateway, client, case, fate).await {
            failures.push(format!("{}, over TCP: {why}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn no_two_cases_have_one_name() {
    let mut names: Vec<String> = all().into_iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}
