*** Settings ***
Documentation     Every site ends with the same tree, whatever is done at whichever site.

Resource          ../resources/session.resource

Suite Setup       Prepare Sites
Suite Teardown    Release Sites
Test Teardown     Restore And Audit
Test Timeout      5 minutes
