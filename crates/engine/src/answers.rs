//! Which answer it is: of a person, a rule or a deadline, made of what whoever asks offers. Pure.

use offshoot_core::{
    agent::{AskOption, AskOptionKind},
    api::AnswerParams,
    approval::{Answerer, ApprovalAnswered, ApprovalRecord, ApprovalRequested, MAX_TEXT, Subject, Verdict},
    problem::{Problem, ProblemKind},
    record::TaskRecord,
    rule::{MAX_RULES, NewRule, RuleMatch, RuleRecord},
};

/// What a person said, or why that is no answer.
pub(crate) fn by_person(
    record: &TaskRecord,
    approval: &ApprovalRecord,
    params: AnswerParams,
) -> Result<ApprovalAnswered, Problem> {
    let text = params.text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
        return Err(invalid("text_too_long", format!("at most {MAX_TEXT} bytes can be said with an answer")));
    }
    let option = match (&params.option, params.verdict) {
        (Some(wanted), verdict) => offered(approval, wanted, verdict)?,
        (None, Verdict::Allow) => match approval.plain_yes() {
            Some(yes) => yes.id.clone(),
            None if approval.subject == Subject::Question && text.is_some() => String::new(),
            None => return Err(choose(approval)),
        },
        (None, Verdict::Deny) => approval.plain_no().map(|no| no.id.clone()).unwrap_or_default(),
    };
    Ok(ApprovalAnswered {
        approval: approval.id,
        verdict: params.verdict,
        option,
        text,
        by: Answerer::Person,
        rule: rule(record, approval, &params)?,
    })
}

/// What a rule says. `None` if whoever asks does not offer a plain yes: then a person has to choose.
pub(crate) fn by_rule(rule: &RuleRecord, asked: &ApprovalRequested) -> Option<ApprovalAnswered> {
    let of = |kind| asked.options.iter().filter(move |option| option.kind == kind);
    let option = match rule.verdict {
        Verdict::Allow => {
            let mut yes = of(AskOptionKind::AllowOnce);
            yes.next().filter(|_| yes.next().is_none())?.id.clone()
        }
        Verdict::Deny => {
            let no = of(AskOptionKind::RejectOnce).chain(of(AskOptionKind::RejectAlways)).next();
            no.map(|no| no.id.clone()).unwrap_or_default()
        }
    };
    Some(ApprovalAnswered {
        approval: asked.approval,
        verdict: rule.verdict,
        option,
        text: rule.text.clone(),
        by: Answerer::Rule { rule: rule.id },
        rule: None,
    })
}

/// What it means that nobody answered.
pub(crate) fn by_deadline(approval: &ApprovalRecord) -> ApprovalAnswered {
    ApprovalAnswered {
        approval: approval.id,
        verdict: Verdict::Deny,
        option: approval.plain_no().map(|no| no.id.clone()).unwrap_or_default(),
        text: Some("Nobody answered in time. Go on without it, or in another way.".to_owned()),
        by: Answerer::Deadline,
        rule: None,
    }
}

/// The offered answer with this id or label.
fn offered(approval: &ApprovalRecord, wanted: &str, verdict: Verdict) -> Result<String, Problem> {
    let find = |by: fn(&AskOption) -> &str| approval.options.iter().find(|option| by(option) == wanted);
    let Some(option) = find(|option| &option.id).or_else(|| find(|option| &option.label)) else {
        return Err(choose(approval));
    };
    let says = match option.kind {
        AskOptionKind::AllowOnce | AskOptionKind::AllowAlways => Some(Verdict::Allow),
        AskOptionKind::RejectOnce | AskOptionKind::RejectAlways => Some(Verdict::Deny),
        AskOptionKind::Other => None,
    };
    if says.is_some_and(|says| says != verdict) {
        return Err(invalid("wrong_option", format!("{wanted:?} says the opposite")));
    }
    Ok(option.id.clone())
}

/// The standing rule that a person wants with the answer.
fn rule(
    record: &TaskRecord,
    approval: &ApprovalRecord,
    params: &AnswerParams,
) -> Result<Option<NewRule>, Problem> {
    let Some(scope) = params.rule else {
        if params.prefix.is_some() || params.below.is_some() {
            return Err(invalid("no_scope", "say for whom the rule holds: for the task, or always"));
        }
        return Ok(None);
    };
    let Some(exactly) = RuleMatch::exactly(&approval.subject) else {
        return Err(invalid(
            "no_rule",
            "this cannot be a standing rule: it is not said in a way that could be compared with the next request",
        )
        .hint("answer it for this time"));
    };
    // A rule answers with a plain yes; one that somebody chose stands for this request only.
    if params.verdict == Verdict::Allow && approval.plain_yes().is_none() {
        return Err(invalid("no_rule", "a choice between several answers cannot be a standing rule"));
    }
    if record.rules.len() >= MAX_RULES {
        return Err(invalid("too_many_rules", format!("{} has {MAX_RULES} rules already", record.name))
            .hint("`offshoot rules --remove NAME` takes one back"));
    }
    let matches = match (&params.prefix, &params.below) {
        (None, None) => exactly,
        (Some(prefix), None) => RuleMatch::beginning(prefix).ok_or_else(|| {
            invalid("bad_prefix", format!("{prefix:?} is not made of plain words"))
                .hint("letters, digits, spaces and _-./:,@%+= only, as in \"cargo test\"")
        })?,
        (None, Some(below)) => RuleMatch::below(&approval.subject, below).ok_or_else(|| {
            invalid("bad_directory", format!("{below:?} is no directory that this could be about"))
                .hint("an absolute path as the agent sees it, without . and ..; only for files")
        })?,
        (Some(_), Some(_)) => return Err(invalid("bad_rule", "a rule is about commands or about files")),
    };
    if !matches.matches(&approval.subject) {
        return Err(invalid("rule_misses", "that rule would not answer this very request")
            .hint("the beginning of a command counts only if all of the command is plain words"));
    }
    Ok(Some(NewRule { scope, matches }))
}

fn choose(approval: &ApprovalRecord) -> Problem {
    let offered: Vec<_> = approval.options.iter().map(|option| format!("{:?}", option.label)).collect();
    invalid("choose_option", "a mere yes does not answer this; choose one of the answers")
        .hint(format!("--option, with one of: {}", offered.join(", ")))
}

fn invalid(code: &'static str, message: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Invalid, code, message)
}
