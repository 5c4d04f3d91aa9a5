*** Settings ***
Documentation    One site at a time writes; every site must show it.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        smoke    ci


*** Test Cases ***
New Files Reach Every Site
    [Documentation]    All sites create files at the same time.
    ${files} =    Create Files At All Sites
    Wait Until All Sites Agree    timeout=60 s
    Files Should Exist    last    ${files}

Changed Files Reach Every Site
    [Documentation]    Overwritten in place, appended to, and replaced as editors do, each at another site.
    ${files} =    Create Files    first    count=6
    Wait Until All Sites Agree    timeout=60 s
    Change Files    second    ${files}
    Wait Until All Sites Agree    timeout=60 s
    Append To Files    last    ${files}
    Wait Until All Sites Agree    timeout=60 s
    Save Files    first    ${files}
    Wait Until All Sites Agree    timeout=60 s

Deleted Files Disappear Everywhere
    [Documentation]    Single files first, then the directory with the rest.
    ${files} =    Create Files    first    count=8
    Wait Until All Sites Agree    timeout=60 s
    Delete Files    last    ${files}[:4]
    Wait Until All Sites Agree    timeout=60 s
    Delete Directory Of    second    ${files}
    Wait Until All Sites Agree    timeout=60 s
    Files Should Be Gone    first    ${files}

Renamed Files And Directories Are Renamed Everywhere
    [Documentation]    The old names go, the new ones come with the same content.
    ${files} =    Create Files    first    count=8
    Wait Until All Sites Agree    timeout=60 s
    ${renamed} =    Rename Files    second    ${files}
    Wait Until All Sites Agree    timeout=60 s
    Files Should Be Gone    last    ${files}
    Files Should Exist    last    ${renamed}
    Rename Directory Of    last    ${renamed}
    Wait Until All Sites Agree    timeout=60 s
    Files Should Be Gone    first    ${renamed}

Odd Names Are Kept Byte By Byte
    [Documentation]    Spaces, newlines, quotes, bytes that are not UTF-8, long names.
    Create Oddly Named Files    first
    Wait Until All Sites Agree    timeout=60 s

Empty Directories Links And Modes Are Kept
    [Documentation]    What is no plain file, and every permission.
    Create Special Entries    last
    Wait Until All Sites Agree    timeout=60 s
