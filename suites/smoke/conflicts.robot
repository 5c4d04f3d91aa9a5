*** Settings ***
Documentation    Sites write without knowing of each other; every version must survive, the same way everywhere.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        smoke    ci    conflict


*** Test Cases ***
Concurrent Edits Are All Kept
    [Documentation]    The same file, changed at every site while all links are cut.
    ${files} =    Create Files    first    count=1
    Wait Until All Sites Agree    timeout=60 s
    Cut All Sites Off
    Change Files At All Sites    ${files}
    Rejoin All Sites
    Wait Until All Sites Agree    timeout=60 s
    Every Site Should Hold Versions    ${files}[0]

Files Of The Same Name Are All Kept
    [Documentation]    Every site creates a file of the same name while all links are cut.
    Cut All Sites Off
    ${file} =    Create Same File At All Sites
    Rejoin All Sites
    Wait Until All Sites Agree    timeout=60 s
    Every Site Should Hold Versions    ${file}

An Edit Wins Over A Delete
    [Documentation]    One site deletes what the others change; the changed file stays.
    ${files} =    Create Files    first    count=4
    Wait Until All Sites Agree    timeout=60 s
    Cut All Sites Off
    Delete At One Site While Others Change    first    ${files}
    Rejoin All Sites
    Wait Until All Sites Agree    timeout=60 s
    Files Should Exist    first    ${files}

Mixed Operations At All Sites Lose Nothing
    [Documentation]    Random operations on the same files at every site at the same time, over live links.
    ${files} =    Create Files    second
    Wait Until All Sites Agree    timeout=60 s
    Run Mixed Operations At All Sites    ${files}
    Wait Until All Sites Agree    timeout=90 s
