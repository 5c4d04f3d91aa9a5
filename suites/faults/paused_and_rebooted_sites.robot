*** Settings ***
Documentation    A site stands still, or boots, while the others go on.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        faults


*** Test Cases ***
A Paused Site Catches Up
    [Documentation]    Nothing runs at the second site while files are written elsewhere.
    ${before} =    Folder Usage    second
    ${pause} =    Pause Process    second
    ${files} =    Create Files    first    count=4
    Nothing Should Arrive    second    ${before}    within=2 s
    Undo Fault    ${pause}
    Wait Until All Sites Agree    timeout=60 s
    Files Should Exist    second    ${files}

A Paused Coordinator Loses No Write Of Its Own
    [Documentation]    Users write at the second site while its coordinator stands still.
    ${before} =    Folder Usage    first
    ${pause} =    Pause Process    second    coordinator
    ${files} =    Create Files    second    count=4
    Nothing Should Arrive    first    ${before}    within=2 s
    Undo Fault    ${pause}
    Wait Until All Sites Agree    timeout=60 s
    Files Should Exist    first    ${files}

A Rebooted Site Comes Back With Everything
    [Documentation]    The second site goes down with files on their way, and boots again.
    ${files} =    Create Files    first    count=4
    ${down} =    Shut Node Down    second
    ${more} =    Create Files    first    count=4
    Undo Fault    ${down}
    Wait Until All Sites Agree    timeout=90 s
    Files Should Exist    second    ${files}
    Files Should Exist    second    ${more}
