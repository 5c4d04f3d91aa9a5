*** Settings ***
Documentation    The killed process is at the site that sends.

Resource         ../resources/session.resource
Resource         ../resources/crash.resource

Test Template    Transfer Should Survive A Kill Of

Test Tags        faults


*** Test Cases ***    ROLE    SITE
Mover    mover-udt    first
Coordinator    coordinator    first
Circusd    circusd    first
Supervisor    supervisor    first
