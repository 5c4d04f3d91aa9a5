*** Settings ***
Documentation    Links that fail in one direction only, or again and again.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        faults


*** Variables ***
${FLAPPED_BYTES}    ${4_000_000}


*** Test Cases ***
Sites Agree After A One Way Partition
    [Documentation]    The second site hears the others and can tell none of them anything; both sides write.
    [Tags]    partition
    ${cut} =    One Way Partition    second    others
    ${here} =    Create Files    first    count=3
    ${there} =    Create Files    second    count=3
    ${before} =    Folder Usage    first
    Nothing Should Arrive    first    ${before}    within=2 s
    Undo Fault    ${cut}
    Wait Until All Sites Agree    timeout=90 s
    Files Should Exist    second    ${here}
    Files Should Exist    first    ${there}

A Transfer Survives A Flapping Link
    [Documentation]    Every link of the second site goes down three times during a transfer to it.
    Set Rate On All Links    10 Mbit/s
    Flap Site    second    down=500 ms    up=1 s    flaps=3
    ${file} =    Create Large File    first    size=${FLAPPED_BYTES}
    Wait Until Outages Are Over
    Wait Until File Arrives Everywhere    first    ${file}    timeout=90 s
