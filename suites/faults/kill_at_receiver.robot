*** Settings ***
Documentation    The killed process is at a site that receives.

Resource         ../resources/session.resource
Resource         ../resources/crash.resource

Test Template    Transfer Should Survive A Kill Of

Test Tags        faults


*** Test Cases ***    ROLE    SITE
Mover    mover-udt    second
Coordinator    coordinator    second
Circusd    circusd    second
Supervisor    supervisor    second
