*** Settings ***
Documentation     SIGKILL of any process of the engine, in the middle of a transfer, loses nothing.

Resource          ../resources/session.resource

Suite Setup       Prepare Sites
Suite Teardown    Release Sites
Test Teardown     Restore And Audit
Test Timeout      5 minutes
